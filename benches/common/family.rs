//! The processes of a program: the one that was started, and all that come from it.

use std::fs;

/// `pid` and its descendants that live at this moment.
pub fn family(pid: u32) -> Vec<u32> {
    let mut family = vec![pid];
    let mut asked = 0;
    while let Some(&parent) = family.get(asked) {
        family.extend(children(parent));
        asked += 1;
    }
    family
}

/// Of one process, whichever of its threads started them.
fn children(pid: u32) -> Vec<u32> {
    let of_thread = |thread| fs::read_to_string(format!("/proc/{pid}/task/{thread}/children"));
    let texts = threads(pid).into_iter().filter_map(|thread| of_thread(thread).ok());
    texts
        .flat_map(|text| text.split_whitespace().filter_map(|child| child.parse().ok()).collect::<Vec<_>>())
        .collect()
}

/// The threads of a process; none when it has ended.
pub fn threads(pid: u32) -> Vec<u32> {
    let folders = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    folders.filter_map(|folder| folder.file_name().to_str()?.parse().ok()).collect()
}
