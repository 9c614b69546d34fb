//! Weight files that were made to do harm: refused in one line, before memory is taken for them.

use std::io::{Cursor, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use candle_vision_models::weights::read;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// The pickle of `{"w": tensor}`, whose storage `0` is said to hold `len` floats.
fn tensor(len: &str, offset: &str, size: &[&str], stride: &[&str]) -> Vec<u8> {
    let int = |digits: &str| format!("I{digits}\n");
    let tuple = |items: &[&str]| -> String {
        format!("({}t", items.iter().map(|item| int(item)).collect::<String>())
    };
    let text = format!(
        "}}S'w'\nctorch._utils\n_rebuild_tensor_v2\n((S'storage'\nctorch\nFloatStorage\nS'0'\nS'cpu'\n{}tQ{}{}{}\
         I00\nccollections\nOrderedDict\n)RtRs.",
        int(len),
        int(offset),
        tuple(size),
        tuple(stride),
    );
    [b"\x80\x02", text.as_bytes()].concat()
}

fn archive(pickle: &[u8], storage: &[u8], method: CompressionMethod) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(method);
    for (name, bytes) in [("archive/data.pkl", pickle), ("archive/data/0", storage)] {
        zip.start_file(name, options).expect("a new entry");
        zip.write_all(bytes).expect("in memory");
    }
    zip.finish().expect("in memory").into_inner()
}

fn stored(pickle: &[u8]) -> Vec<u8> {
    archive(pickle, &[0; 64], CompressionMethod::Stored)
}

#[track_caller]
fn check(bytes: &[u8], expected: &str) {
    let folder = tempfile::tempdir().expect("a folder");
    let path: PathBuf = folder.path().join("weights.pth");
    std::fs::write(&path, bytes).expect("written");
    let started = Instant::now();
    let message = read(&path).expect_err(expected).to_string();
    assert!(message.contains(expected), "`{expected}` is not in: {message}");
    assert!(!message.contains('\n'), "{message}");
    assert!(started.elapsed() < Duration::from_secs(20), "it took {:?}", started.elapsed());
}

#[test]
fn the_pickle_that_is_made_here_is_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("weights");
    std::fs::write(&path, stored(&tensor("16", "2", &["2", "3"], &["3", "1"]))).expect("written");
    assert_eq!(read(&path).expect("weights")["w"].dims(), [2, 3]);
}

#[test]
fn sizes_that_do_not_fit_the_storage_are_refused() {
    let huge = "1000000000000";
    check(
        &stored(&tensor(huge, "0", &[huge], &["1"])),
        "`w` of shape [1000000000000] is too large",
    );
    check(
        &stored(&tensor("100", "0", &["100"], &["1"])),
        "`archive/data/0` has 64 bytes, expected 400",
    );
    check(
        &stored(&tensor("16", "0", &[huge], &["1"])),
        "`w` of shape [1000000000000] reaches beyond",
    );
    check(
        &stored(&tensor("16", "0", &["4", "4"], &["5", "1"])),
        "reaches beyond its storage of 16",
    );
    check(&stored(&tensor("16", "13", &["4"], &["1"])), "reaches beyond its storage of 16");
    let most = "18446744073709551615";
    check(&stored(&tensor("16", most, &["1"], &["1"])), "reaches beyond");
    check(&stored(&tensor("16", "0", &["2"], &[most])), "reaches beyond");
    check(&stored(&tensor(most, most, &["2"], &[most])), "reaches beyond");
    check(&stored(&tensor("16", "0", &["-1"], &["1"])), "no count");
    check(&stored(&tensor("16", "-4", &["1"], &["1"])), "no count");
    check(&stored(&tensor("16", "0", &["1", "1"], &["1"])), "2 sizes and 1 strides");
    check(&stored(&tensor("-1", "0", &["1"], &["1"])), "makes no sense");
}

#[test]
fn numbers_that_are_repeated_do_not_fill_the_memory() {
    let many = "1000000";
    check(&stored(&tensor("16", "0", &[many, many], &["0", "0"])), "too large for the file");
    check(
        &stored(&tensor("16", "0", &["4294967296", "4294967296"], &["0", "0"])),
        "too large for the file",
    );
}

#[test]
fn entries_that_lie_about_their_size_are_refused() {
    let pickle = tensor("16777216", "0", &["16777216"], &["1"]);
    let zeros = vec![0; 64 << 20];
    check(&archive(&pickle, &zeros, CompressionMethod::Deflated), "grows from");
    // A byte that was changed: the checksum tells.
    let mut bytes = stored(&tensor("16", "0", &["16"], &["1"]));
    let at = bytes.windows(64).position(|window| window == [0; 64]).expect("the storage");
    bytes[at + 5] = 1;
    check(&bytes, "damaged");
}

#[test]
fn calls_are_refused_by_name() {
    for (module, name) in [
        ("os", "system"),
        ("posix", "system"),
        ("nt", "system"),
        ("subprocess", "Popen"),
        ("builtins", "eval"),
        ("builtins", "exec"),
        ("__builtin__", "eval"),
        ("builtins", "__import__"),
        ("importlib", "import_module"),
        ("runpy", "run_path"),
        ("webbrowser", "open"),
        ("pickle", "loads"),
        ("torch", "load"),
        ("types", "CodeType"),
        ("numpy.testing._private.utils", "runstring"),
        ("operator", "attrgetter"),
        ("socket", "socket"),
        ("shutil", "rmtree"),
        ("sys", "exit"),
        ("code", "InteractiveInterpreter"),
        ("_posixsubprocess", "fork_exec"),
    ] {
        let named = format!("would call `{module}.{name}`");
        check(&stored(format!("}}S'x'\nc{module}\n{name}\n(S'id'\ntRs.").as_bytes()), &named);
        // INST, OBJ and STACK_GLOBAL with NEWOBJ.
        check(&stored(format!("(S'id'\ni{module}\n{name}\n.").as_bytes()), &named);
        check(&stored(format!("(c{module}\n{name}\nS'id'\no.").as_bytes()), &named);
        let mut stack = format!("S'{module}'\nS'{name}'\n").into_bytes();
        stack.extend_from_slice(b"\x93)\x81.");
        check(&stored(&stack), &named);
    }
    // A dotted name reaches a module through another.
    check(&stored(b"S'torch.serialization'\nS'os.system'\n\x93)\x81."), "os.system");
}

#[test]
fn opcodes_that_weights_do_not_need_are_refused() {
    for bytes in [&b"\x82\x01."[..], b"\x83\x01\x01.", b"Pid\n.", b"\x97.", b"\xff."] {
        check(&stored(bytes), "opcode");
    }
}

#[test]
fn deep_or_endless_structures_end() {
    let deep =
        [b"}S'a'\n".as_slice(), &b"]".repeat(500_000), &b"a".repeat(499_999), b"s."].concat();
    check(&stored(&deep), "no tensors");
    // A dictionary within itself.
    check(&stored(b"}q\x00S'a'\nh\x00s."), "no tensors");
    // Each list holds the last one twice over: small to write, endless to read out.
    let mut doubled = b"]q\x00".to_vec();
    for i in 1..=200u8 {
        doubled.extend_from_slice(&[b'(', b'h', i - 1, b'h', i - 1, b'l', b'q', i]);
    }
    doubled.push(b'.');
    check(&stored(&doubled), "no tensors");
    check(&stored(&b"(".repeat(100_000)), "cut short");
    check(&stored(&b"K\x01".repeat(5 << 20)), "more than");
    check(&stored(b"X\xff\xff\xff\xffab."), "cut short");
    check(&stored(b"\x8d\xff\xff\xff\xff\xff\xff\xff\x7fab."), "cut short");
}

/// A list of 100,000 numbers, kept as 0.
fn long_list() -> Vec<u8> {
    [b"](".as_slice(), &b"K\x01".repeat(100_000), b"eq\x000"].concat()
}

#[test]
fn calls_do_not_take_the_square_of_the_file() {
    // Each call copies the list into a dictionary: 80 GB for a file of a megabyte.
    let dictionaries = [
        long_list(),
        b"ccollections\nOrderedDict\nq\x010".to_vec(),
        b"h\x01h\x00\x85R0".repeat(100_000),
        b"N.".to_vec(),
    ];
    check(&stored(&dictionaries.concat()), "its pickle's calls take more than");
    // Each state is searched for the entry that tells a network.
    let states = [
        b"}(".to_vec(),
        b"K\x01K\x02".repeat(100_000),
        b"uq\x000cmodule\nClass\n)\x81q\x01".to_vec(),
        b"h\x00b".repeat(100_000),
        b".".to_vec(),
    ];
    check(&stored(&states.concat()), "its pickle's calls take more than");
    // The list as arguments, of which only the first are looked at.
    let arguments = [
        long_list(),
        b"cmodule\nClass\nq\x010".to_vec(),
        b"h\x01h\x00R0".repeat(100_000),
        b"N.".to_vec(),
    ];
    check(&stored(&arguments.concat()), "no tensors");
}

#[test]
fn a_long_name_is_not_copied_for_each_tensor() {
    let tensor = tensor("16", "0", &["1"], &["1"]);
    let tensor = tensor.strip_prefix(b"\x80\x02}S'w'\n").and_then(|rest| rest.strip_suffix(b"s."));
    let name = [b"X".as_slice(), &1_000_000_u32.to_le_bytes(), &[b'n'; 1_000_000]].concat();
    let pickle = [
        tensor.expect("the pickle of a dictionary"),
        b"q\x000",
        &name,
        b"q\x010}(",
        &b"h\x01h\x00".repeat(1_000),
        b"u.",
    ];
    check(&stored(&pickle.concat()), "too long for names of tensors");
}

#[test]
fn entries_that_are_mostly_unread_are_not_all_unpacked() {
    let all: String = (0..20)
        .map(|key| {
            format!(
                "S'{key}'\nctorch._utils\n_rebuild_tensor_v2\n((S'storage'\nctorch\nFloatStorage\nS'{key}'\nS'cpu'\n\
                 I2097152\ntQI0\n(I1\nt(I1\ntI00\nccollections\nOrderedDict\n)RtRs"
            )
        })
        .collect();
    let pickle = format!("}}{all}.");
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default();
    zip.start_file("archive/data.pkl", options).expect("a new entry");
    zip.write_all(pickle.as_bytes()).expect("in memory");
    let zeros = vec![0; 8 << 20];
    for key in 0..20 {
        zip.start_file(format!("archive/data/{key}"), options).expect("a new entry");
        zip.write_all(&zeros).expect("in memory");
    }
    check(&zip.finish().expect("in memory").into_inner(), "unpack to too many bytes");
}

#[test]
fn names_stay_in_the_line_of_a_message() {
    let pickle = tensor("16", "99", &["4"], &["1"]);
    let pickle = std::str::from_utf8(&pickle[2..]).expect("it is text behind its version");
    check(&stored(pickle.replace("S'w'", "Va\u{1b}[31mb").as_bytes()), "`a\\u{1b}[31mb`");
}

#[test]
fn safetensors_headers_are_checked() {
    let file = |header: &str, data: usize| {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend(std::iter::repeat_n(0u8, data));
        bytes
    };
    let tensor = |shape: &str, from: usize, to: usize| {
        format!(r#"{{"dtype":"F32","shape":{shape},"data_offsets":[{from},{to}]}}"#)
    };
    check(&file(&format!(r#"{{"w":{}}}"#, tensor("[1000000000000]", 0, 8)), 8), "damaged");
    check(
        &file(&format!(r#"{{"w":{}}}"#, tensor("[4294967296,4294967296,4294967296]", 0, 8)), 8),
        "damaged",
    );
    check(&file(&format!(r#"{{"w":{}}}"#, tensor("[2]", 0, 800)), 8), "damaged");
    let overlapping = format!(r#"{{"v":{},"w":{}}}"#, tensor("[2]", 0, 8), tensor("[2]", 4, 12));
    check(&file(&overlapping, 12), "damaged");
    let mut long = (1u64 << 30).to_le_bytes().to_vec();
    long.extend_from_slice(b"{\"w\":");
    check(&long, "too long");
    // An empty tensor, of which only the strides are too large.
    let empty = tensor("[0,9223372036854775808,4]", 0, 0);
    check(&file(&format!(r#"{{"w":{empty}}}"#), 0), "impossible");
    let nested = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    check(&file(&format!(r#"{{"w":{nested}}}"#), 8), "damaged");
}
