//! What `/etc/resolv.conf` says: whom to ask, and as what a name is looked for that is not absolute.
//!
//! As the C library reads it (resolv.conf(5)), which passes over what it does not understand. Never opens the file.
//! Tested here.

use std::net::{IpAddr, SocketAddr};

use super::Question;
use crate::core::config::is_host_name;

const PORT: u16 = 53;
/// The C library takes no more.
const MOST_DOTS: usize = 15;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvConf {
    pub servers: Vec<SocketAddr>,
    /// Without dots at their ends; the root is empty.
    search: Vec<String>,
    /// A name with so many dots is looked for as it is before the search list is tried.
    ndots: usize,
}

impl ResolvConf {
    /// A text without a search list has the domain of this host, whose name that is.
    pub fn read(text: &str, host: &str) -> Self {
        let mut conf = Self {
            servers: Vec::new(),
            search: domains(host.split_once('.').map(|(_, domain)| domain)),
            ndots: 1,
        };
        for line in text.lines() {
            let mut words = line.split_ascii_whitespace();
            match words.next() {
                Some("nameserver") => {
                    let address = words.next().and_then(|word| word.parse::<IpAddr>().ok());
                    conf.servers
                        .extend(address.map(|address| SocketAddr::new(address, PORT)));
                }
                // The last of them counts.
                Some("domain") => conf.search = domains(words.next()),
                Some("search") => conf.search = domains(words),
                Some("options") => {
                    let ndots = words.filter_map(|word| word.strip_prefix("ndots:")?.parse().ok());
                    // The last of them counts, too.
                    conf.ndots = ndots.fold(conf.ndots, |_, ndots: usize| ndots.min(MOST_DOTS));
                }
                _ => {}
            }
        }
        conf
    }

    /// The absolute names that may be meant, in the order in which they count.
    pub fn candidates(&self, question: &Question) -> Vec<String> {
        let host = &question.host;
        if question.absolute {
            return vec![host.clone()];
        }
        let searched = self.search.iter().map(|domain| match domain.as_str() {
            "" => host.clone(),
            domain => format!("{host}.{domain}"),
        });
        let mut candidates: Vec<String> = searched.collect();
        let place = match host.matches('.').count() >= self.ndots {
            true => 0,
            false => candidates.len(),
        };
        candidates.insert(place, host.clone());
        let mut distinct = Vec::new();
        for candidate in candidates {
            // One that is too long is nobody's.
            if is_host_name(&candidate) && !distinct.contains(&candidate) {
                distinct.push(candidate);
            }
        }
        distinct
    }
}

fn domains<'a>(words: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let words = words.into_iter().map(|word| word.trim_end_matches('.'));
    let known = words.filter(|word| word.is_empty() || is_host_name(word));
    known.map(str::to_ascii_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::dns::{Family, Wanted};

    fn candidates(text: &str, host: &str) -> Vec<String> {
        let question = Question::new(host, Family::Ipv4, Wanted::Addresses);
        ResolvConf::read(text, "lb-a").candidates(&question)
    }

    #[test]
    fn whom_to_ask() {
        let text = "# by hand\nnameserver 198.18.0.53 # the near one\n;nameserver 198.18.0.54\nnameserver nonsense\n\
                    nameserver\tfd00::53\nnameserver\nsortlist 198.18.0.0\n";
        let servers = ["198.18.0.53:53", "[fd00::53]:53"].map(|text| text.parse().unwrap());
        assert_eq!(ResolvConf::read(text, "").servers, servers);
    }

    #[test]
    fn names_with_few_dots_are_searched_first_and_others_last() {
        let text = "search Prod.Example. example\n";
        assert_eq!(candidates(text, "db"), ["db.prod.example", "db.example", "db"]);
        let dotted = ["db.prod", "db.prod.prod.example", "db.prod.example"];
        assert_eq!(candidates(text, "db.prod"), dotted);
        let late = format!("{text}options timeout:1 ndots:2 rotate\n");
        assert_eq!(candidates(&late, "db.prod")[2], "db.prod");
        assert_eq!(candidates(&late, "a.b.c")[0], "a.b.c");
        assert_eq!(candidates("search a\noptions ndots:0\n", "db"), ["db", "db.a"]);
        assert_eq!(
            candidates("search a\noptions ndots:99\n", "1.2.3.4.5.6.7.8.9.10.11.12.13.14.15.x")[0].len(),
            37
        );
    }

    #[test]
    fn an_absolute_name_is_not_searched() {
        assert_eq!(candidates("search example\n", "db."), ["db"]);
        assert_eq!(candidates("search example\n", "DB.Prod."), ["db.prod"]);
    }

    #[test]
    fn the_last_of_search_and_domain_counts_and_else_this_hosts_domain() {
        assert_eq!(candidates("domain a\nsearch b c\n", "db"), ["db.b", "db.c", "db"]);
        assert_eq!(candidates("search b c\ndomain a d\n", "db"), ["db.a", "db"]);
        assert_eq!(candidates("", "db"), ["db"]);
        let question = Question::new("db", Family::Ipv4, Wanted::Addresses);
        let of_host = |text| ResolvConf::read(text, "lb-a.prod.example").candidates(&question);
        assert_eq!(of_host("nameserver 198.18.0.53\n"), ["db.prod.example", "db"]);
        assert_eq!(of_host("search .\n"), ["db"]);
    }

    #[test]
    fn what_cannot_be_a_name_is_no_candidate() {
        assert_eq!(
            candidates("search -- a..b # remark a a.\n", "db"),
            ["db.--", "db.remark", "db.a", "db"]
        );
        let long = ["x".repeat(60), "y".repeat(60), "z".repeat(60)].join(".");
        let text = format!("search {long}.{long} example\n");
        assert_eq!(candidates(&text, &long), [long.clone(), format!("{long}.example")]);
    }
}
