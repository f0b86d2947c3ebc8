//! The calls of bpf(2) that the library does not offer: an inner map with our flags, a batch of updates, the number of an
//! inner map; pins of whatever it is, and where a link leads.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use anyhow::{Context, Result};
use aya::maps::MapData;
use lb_common::abi::SLOT_FLAGS;

const BPF_MAP_CREATE: i64 = 0;
const BPF_MAP_LOOKUP_ELEM: i64 = 1;
const BPF_OBJ_PIN: i64 = 6;
const BPF_OBJ_GET: i64 = 7;
const BPF_OBJ_GET_INFO_BY_FD: i64 = 15;
const BPF_MAP_UPDATE_BATCH: i64 = 26;
const BPF_MAP_TYPE_ARRAY: u32 = 2;

/// Of `union bpf_attr`: type, key and value size, entries, flags, two zeroes, and the name at byte 28.
#[repr(C, align(8))]
struct CreateMap {
    words: [u32; 7],
    name: [u8; 16],
    rest: [u8; 84],
}

/// Of `union bpf_attr`, for one element.
#[repr(C)]
struct Element {
    map_fd: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// Of `union bpf_attr`, for pins.
#[repr(C)]
struct Pin {
    path: u64,
    fd: u32,
    flags: u32,
}

/// Of `union bpf_attr`, as `info`.
#[repr(C)]
struct Question {
    fd: u32,
    length: u32,
    answer: u64,
}

/// The first of `struct bpf_link_info`, for one of XDP.
#[repr(C)]
#[derive(Default)]
pub struct LinkInfo {
    kind: u32,
    id: u32,
    pub program: u32,
    unused: u32,
    /// 0: it leads nowhere any more.
    pub ifindex: u32,
}

/// Of `union bpf_attr`, as `batch`.
#[repr(C)]
struct Batch {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

/// An array of u64 that may become an inner map of `SLOTS`.
pub fn create_slot_table(cells: u32) -> Result<MapData> {
    let attributes = CreateMap {
        words: [BPF_MAP_TYPE_ARRAY, 4, 8, cells, SLOT_FLAGS, 0, 0],
        name: *b"slot_table\0\0\0\0\0\0",
        rest: [0; 84],
    };
    let fd = bpf(BPF_MAP_CREATE, &attributes).context("create a slot table")?;
    // SAFETY: a new descriptor that nobody else has.
    Ok(MapData::from_fd(unsafe { OwnedFd::from_raw_fd(fd) })?)
}

/// Puts each of `inner` at its index of `outer`. No program sees an old one any more afterwards.
pub fn swap_inner_maps(outer: &MapData, inner: &[(u32, MapData)]) -> Result<()> {
    let keys: Vec<u32> = inner.iter().map(|(index, _)| *index).collect();
    let values: Vec<i32> = inner.iter().map(|(_, map)| map.fd().as_fd().as_raw_fd()).collect();
    let batch = Batch {
        in_batch: 0,
        out_batch: 0,
        keys: keys.as_ptr() as u64,
        values: values.as_ptr() as u64,
        count: keys.len() as u32,
        map_fd: outer.fd().as_fd().as_raw_fd().cast_unsigned(),
        elem_flags: 0,
        flags: 0,
    };
    bpf(BPF_MAP_UPDATE_BATCH, &batch)?;
    Ok(())
}

/// The number of the map at this index of `outer`, which needs no privilege as opening it by its number does.
pub fn inner_map(outer: &MapData, index: u32) -> io::Result<Option<u32>> {
    let mut number = 0_u32;
    let element = Element {
        map_fd: outer.fd().as_fd().as_raw_fd().cast_unsigned(),
        key: (&raw const index) as u64,
        value: (&raw mut number) as u64,
        flags: 0,
    };
    match bpf(BPF_MAP_LOOKUP_ELEM, &element) {
        Ok(_) => Ok(Some(number)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

pub fn open_pin(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let pin = Pin {
        path: path.as_ptr() as u64,
        fd: 0,
        flags: 0,
    };
    let fd = bpf(BPF_OBJ_GET, &pin)?;
    // SAFETY: a new descriptor that nobody else has.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

pub fn pin(what: &OwnedFd, path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let pin = Pin {
        path: path.as_ptr() as u64,
        fd: what.as_raw_fd().cast_unsigned(),
        flags: 0,
    };
    bpf(BPF_OBJ_PIN, &pin).map(|_| ())
}

pub fn link_info(link: &OwnedFd) -> io::Result<LinkInfo> {
    let mut info = LinkInfo::default();
    let question = Question {
        fd: link.as_raw_fd().cast_unsigned(),
        length: size_of::<LinkInfo>() as u32,
        answer: (&raw mut info) as u64,
    };
    bpf(BPF_OBJ_GET_INFO_BY_FD, &question)?;
    Ok(info)
}

fn bpf<T>(command: i64, attributes: &T) -> io::Result<i32> {
    // SAFETY: the attributes are as long as said; what they point to outlives the call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attributes, size_of::<T>()) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result as i32)
    }
}
