//! A RST as a whole frame, for peers that say nothing the program could answer.

use std::cell::UnsafeCell;

use lb_common::answer::{Reset, write_reset};
use lb_common::family::Address;
use lb_common::flow_table::FlowKey;
use lb_common::forward::address;
use lb_common::frame::Frame;
use lb_common::parse::{ETHER_HEADER, ETHER_TYPE, TCP_HEADER};
use lb_common::wire::{Be16, Ether};

/// Towards whoever sends packets of `key`, and expects this sequence number.
pub fn reset_frame<A: Address>(key: &FlowKey<A>, sequence: u32, ether: Ether) -> Vec<u8> {
    let mut draft = Draft(UnsafeCell::new(vec![0; ETHER_HEADER + A::HEADER + TCP_HEADER].into()));
    let written = address(&mut draft, ether)
        .and_then(|()| draft.write(ETHER_TYPE, Be16::new(A::ETHER_TYPE)))
        .and_then(|()| write_reset(&mut draft, ETHER_HEADER, key, &Reset::at(sequence)));
    written.expect("INVARIANT: the frame is as long as its headers");
    draft.0.into_inner().into()
}

/// A frame of a given length.
struct Draft(UnsafeCell<Box<[u8]>>);

impl Frame for Draft {
    fn holds(&self, bytes: usize) -> bool {
        self.bytes(0, bytes).is_some()
    }

    fn bytes(&self, at: usize, length: usize) -> Option<*mut u8> {
        // SAFETY: nobody else has it while we look at it.
        let bytes = unsafe { &mut *self.0.get() };
        Some(bytes.get_mut(at..at.checked_add(length)?)?.as_mut_ptr())
    }

    fn truncate(&mut self, _: usize) -> Option<()> {
        None
    }

    fn grow_front(&mut self, _: usize) -> Option<()> {
        None
    }
}
