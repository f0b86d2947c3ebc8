//! What programs say of this node: the first word counts, and another one after it was said several times.

use super::track::Program;

#[derive(Debug, Default)]
pub struct Fitness(Vec<Standing>);

#[derive(Debug)]
struct Standing {
    program: Program,
    is_well: bool,
    /// It has said anything yet.
    is_known: bool,
    /// How often in a row it said the opposite.
    against: u32,
}

impl Fitness {
    /// These programs and no others; what is known of them stays.
    pub fn follow<'p>(&mut self, wanted: impl Iterator<Item = &'p Program>) {
        let before = std::mem::take(&mut self.0);
        let mut before: Vec<_> = before.into_iter().map(Some).collect();
        for program in wanted {
            let known = before
                .iter_mut()
                .find(|known| known.as_ref().is_some_and(|known| known.program == *program));
            let standing = known.and_then(Option::take).unwrap_or_else(|| Standing {
                program: program.clone(),
                is_well: true,
                is_known: false,
                against: 0,
            });
            self.0.push(standing);
        }
    }

    /// True: what follows may have changed.
    pub fn ended(&mut self, program: &Program, well: bool) -> bool {
        let standing = self.0.iter_mut().find(|standing| standing.program == *program);
        let Some(standing) = standing else { return false };
        if well == standing.is_well {
            (standing.is_known, standing.against) = (true, 0);
            return false;
        }
        standing.against += 1;
        let enough = match (std::mem::replace(&mut standing.is_known, true), well) {
            // Who has just begun knows no better.
            (false, _) => 1,
            (true, true) => program.rise,
            (true, false) => program.fall,
        };
        if standing.against < enough {
            return false;
        }
        (standing.is_well, standing.against) = (well, 0);
        true
    }

    pub fn is_well(&self, program: &Program) -> bool {
        let standing = self.0.iter().find(|standing| standing.program == *program);
        standing.is_none_or(|standing| standing.is_well)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_program_has_to_say_it_several_times() {
        let program = Program {
            command: vec!["/bin/true".to_owned()],
            every: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
            fall: 3,
            rise: 2,
        };
        let mut fitness = Fitness::default();
        fitness.follow([&program].into_iter());
        let told: Vec<bool> = [true, false, false, true, false, false, false, true, false, true, true]
            .map(|well| {
                fitness.ended(&program, well);
                fitness.is_well(&program)
            })
            .to_vec();
        let expected = [true, true, true, true, true, true, false, false, false, false, true];
        assert_eq!(told, expected);

        for _ in 0..3 {
            fitness.ended(&program, false);
        }
        fitness.follow([&program].into_iter());
        assert!(!fitness.is_well(&program), "a reload changes nothing");
        fitness.follow([].into_iter());
        assert!(fitness.is_well(&program));
        fitness.follow([&program].into_iter());
        fitness.ended(&program, false);
        assert!(!fitness.is_well(&program), "the first word");
    }
}
