//! The lab's and the bench's XDP programs: `pass`, `unpack`, `sink`, `swallow`, `returned`, `redirect`, `transmit`, `generator`, `flood`; each as
//! small as it can be.
//! small as it can be.
//!
//! Nothing here is part of Naru: these stand around it, or beside it for comparison.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]

#[cfg(target_arch = "bpf")]
mod bpf {
    use aya_ebpf::bindings::xdp_action::{XDP_ABORTED, XDP_DROP, XDP_PASS, XDP_TX};
    use aya_ebpf::btf_maps::{Array, PerCpuArray};
    use aya_ebpf::helpers::{bpf_get_prandom_u32, bpf_redirect, bpf_xdp_adjust_head};
    use aya_ebpf::macros::{btf_map, xdp};
    use aya_ebpf::programs::XdpContext;
    use lb_common::wire::{Be16, Be32, Ether};
    use lb_tests_bpf::{ANSWER_ME, Flood, HEADER_WORDS, Redirect, SINK_PORTS, SYN_WORDS, Stream, Sunk};

    #[btf_map]
    static REDIRECT: Array<Redirect, 1> = Array::new();
    #[btf_map]
    static STREAM: Array<Stream, 1> = Array::new();
    #[btf_map]
    static FLOOD: Array<Flood, 1> = Array::new();
    /// Number of the flow that this CPU's generator sends next.
    #[btf_map]
    static NEXT_FLOW: PerCpuArray<u32, 1> = PerCpuArray::new();
    #[btf_map]
    static SUNK: PerCpuArray<Sunk, 1> = PerCpuArray::new();

    /// A veth receives redirected frames only where its far end runs a program; this one does nothing else.
    #[xdp(frags)]
    pub fn pass(_: XdpContext) -> u32 {
        XDP_PASS
    }

    /// As `pass`, but takes packets out of those they travel in: the backend's end of IP in IP (RFC 2003, RFC 2473).
    #[xdp(frags)]
    pub fn unpack(context: XdpContext) -> u32 {
        let Some(outer) = outer_header(&context) else {
            return XDP_PASS;
        };
        // The Ethernet header moves behind the outer one.
        let (Some(from), Some(to)) = (at::<[u16; 7]>(&context, 0), at::<[u16; 7]>(&context, outer)) else {
            return XDP_ABORTED;
        };
        // SAFETY: `at` proved both to lie within the frame; they do not overlap.
        unsafe { to.write_volatile(from.read_volatile()) };
        // SAFETY: the context is the one we were called with.
        match unsafe { bpf_xdp_adjust_head(context.ctx, outer as i32) } {
            0 => XDP_PASS,
            _ => XDP_ABORTED,
        }
    }

    /// The length of an IP header without options that carries another packet of its family.
    #[inline(always)]
    fn outer_header(context: &XdpContext) -> Option<usize> {
        let byte = |offset| {
            at::<u8>(context, offset).map(|byte| {
                // SAFETY: `at` proved it to lie within the frame.
                unsafe { byte.read_volatile() }
            })
        };
        match (byte(12)?, byte(13)?, byte(14)?) {
            (0x08, 0x00, 0x45) if byte(14 + 9)? == 4 => Some(20),
            (0x86, 0xdd, _) if byte(14 + 6)? == 41 => Some(40),
            _ => None,
        }
    }

    /// Counts and drops UDP frames to `SINK_PORTS`, or answers them; the host has the rest (ARP, ping).
    #[xdp]
    pub fn sink(context: XdpContext) -> u32 {
        let Some(frame) = Udp::of(&context) else {
            return XDP_PASS;
        };
        if !is_sink(frame.destination_port) {
            return XDP_PASS;
        }
        count(&context);
        if frame.payload != ANSWER_ME {
            return XDP_DROP;
        }
        frame.turn();
        XDP_TX
    }

    /// Drops answers of the `sink`: no program at the client waits for them.
    #[xdp]
    pub fn swallow(context: XdpContext) -> u32 {
        match Udp::of(&context) {
            Some(frame) if is_sink(frame.source_port) => XDP_DROP,
            _ => XDP_PASS,
        }
    }

    /// Counts and drops what came back by the link it was sent on: UDP frames to `SINK_PORTS`, plain or in IPv4.
    #[xdp]
    pub fn returned(context: XdpContext) -> u32 {
        const IPIP: u8 = 4;
        let is_returned = match at::<Udp>(&context, 0) {
            // SAFETY: `at` proved all of it to lie within the frame.
            Some(frame) => unsafe { (*frame).protocol == IPIP || is_sink((*frame).destination_port) },
            None => false,
        };
        if !is_returned {
            return XDP_PASS;
        }
        count(&context);
        XDP_DROP
    }

    /// The baseline of what leaves by the link it came in by.
    #[xdp]
    pub fn transmit(context: XdpContext) -> u32 {
        let (Some(frame), Some(redirect)) = (at(&context, 0), REDIRECT.get(0)) else {
            return XDP_ABORTED;
        };
        write(frame, redirect.ether.words);
        XDP_TX
    }

    #[inline(always)]
    fn count(context: &XdpContext) {
        if let Some(sunk) = SUNK.get_ptr_mut(0) {
            // SAFETY: a value of this CPU's own, and nothing interrupts the program on it.
            let sunk = unsafe { &mut *sunk };
            sunk.frames += 1;
            sunk.bytes += (context.data_end() - context.data()) as u64;
        }
    }

    /// The baseline: the least a program that forwards must do.
    #[xdp]
    pub fn redirect(context: XdpContext) -> u32 {
        let (Some(frame), Some(redirect)) = (at(&context, 0), REDIRECT.get(0)) else {
            return XDP_ABORTED;
        };
        write(frame, redirect.ether.words);
        leave(redirect.ifindex)
    }

    /// Makes the frame it is run on the next one of `STREAM`. Frames come back as the last receiver left them, so
    /// all headers are written each time.
    #[xdp]
    pub fn generator(context: XdpContext) -> u32 {
        let (Some(frame), Some(stream), Some(next)) = (
            at::<[u32; HEADER_WORDS]>(&context, 0),
            STREAM.get(0),
            NEXT_FLOW.get_ptr_mut(0),
        ) else {
            return XDP_ABORTED;
        };
        // SAFETY: a value of this CPU's own, and nothing interrupts the program on it.
        let next = unsafe { &mut *next };
        let number = *next;
        *next = if number + 1 < stream.flows { number + 1 } else { 0 };
        write(frame, stream.header_of(number));
        leave(stream.ifindex)
    }

    /// Makes the frame it is run on a SYN of `FLOOD`.
    #[xdp]
    pub fn flood(context: XdpContext) -> u32 {
        let (Some(frame), Some(flood)) = (at::<[u32; SYN_WORDS]>(&context, 0), FLOOD.get(0)) else {
            return XDP_ABORTED;
        };
        // SAFETY: the helper reads nothing.
        let random = unsafe { bpf_get_prandom_u32() };
        write(frame, flood.header_of(random));
        leave(flood.ifindex)
    }

    /// Volatile, because the compiler turns a plain copy into a call of a `memcpy` that goes byte by byte.
    #[inline(always)]
    fn write<const N: usize>(frame: *mut [u32; N], words: [u32; N]) {
        for (offset, word) in words.into_iter().enumerate() {
            // SAFETY: `at` proved all of them to lie within the frame.
            unsafe { frame.cast::<u32>().add(offset).write_volatile(word) };
        }
    }

    /// A frame of UDP over IPv4 without options.
    #[repr(C, packed(2))]
    struct Udp {
        ether: Ether,
        ether_type: Be16,
        ip: [u16; 4],
        ttl: u8,
        protocol: u8,
        ip_checksum: u16,
        source: Be32,
        destination: Be32,
        source_port: Be16,
        destination_port: Be16,
        length: u16,
        checksum: u16,
        payload: u16,
    }

    impl Udp {
        #[inline(always)]
        fn of(context: &XdpContext) -> Option<&mut Self> {
            const IPV4: Be16 = Be16::new(0x0800);
            const UDP: u8 = 17;
            // SAFETY: `at` proves all of it to lie within the frame, which is ours alone until we return.
            let frame = unsafe { &mut *at::<Self>(context, 0)? };
            (frame.ether_type == IPV4 && frame.protocol == UDP).then_some(frame)
        }

        /// Back to where it came from. The checksums stay: sums do not know an order.
        #[inline(always)]
        fn turn(&mut self) {
            let ether = self.ether;
            self.ether = Ether::new(ether.source(), ether.destination());
            (self.source, self.destination) = (self.destination, self.source);
            (self.source_port, self.destination_port) = (self.destination_port, self.source_port);
        }
    }

    #[inline(always)]
    fn is_sink(port: Be16) -> bool {
        let port = port.get();
        port >= SINK_PORTS.0 && port <= SINK_PORTS.1
    }

    #[inline(always)]
    fn leave(ifindex: u32) -> u32 {
        // SAFETY: the helper reads nothing but its arguments.
        unsafe { bpf_redirect(ifindex, 0) as u32 }
    }

    /// A pointer to the `T` at this offset, if the frame has all of it.
    #[inline(always)]
    fn at<T>(context: &XdpContext, offset: usize) -> Option<*mut T> {
        let start = context.data() + offset;
        (start + size_of::<T>() <= context.data_end()).then_some(start as *mut T)
    }

    #[panic_handler]
    fn panic(_: &core::panic::PanicInfo) -> ! {
        loop {}
    }

    #[unsafe(link_section = "license")]
    #[unsafe(no_mangle)]
    static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
}

#[cfg(not(target_arch = "bpf"))]
fn main() {}
