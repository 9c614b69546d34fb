//! Which classes a pickle may name.
//!
//! Nothing that a pickle names is run. Names that serve an attack are an error nevertheless, because the user
//! might open the file in another program. Classes that are only unknown are accepted: checkpoints carry
//! settings, dates and random states as well as weights.

/// Modules whose functions can act outside a pickle. They count at the root of a module path, and anywhere in a
/// name with dots.
const FORBIDDEN: &[&str] = &[
    "os",
    "_os",
    "posix",
    "nt",
    "ntpath",
    "posixpath",
    "subprocess",
    "_posixsubprocess",
    "sys",
    "_sys",
    "shutil",
    "socket",
    "importlib",
    "imp",
    "runpy",
    "pty",
    "ctypes",
    "_ctypes",
    "code",
    "codeop",
    "commands",
    "popen2",
    "webbrowser",
    "pip",
    "multiprocessing",
    "asyncio",
    "signal",
    "pdb",
    "bdb",
    "timeit",
    "cProfile",
    "profile",
    "trace",
    "pickle",
    "_pickle",
    "cPickle",
    "dill",
    "cloudpickle",
    "joblib",
    "marshal",
    "shelve",
    "requests",
    "urllib",
    "urllib2",
    "http",
    "httplib",
    "aiohttp",
    "ftplib",
    "smtplib",
    "telnetlib",
    "tempfile",
    "pydoc",
    "doctest",
    "idlelib",
    "lib2to3",
    "distutils",
    "setuptools",
    "venv",
    "ensurepip",
    "zipimport",
    "zipapp",
    "pkgutil",
    "operator",
    "_operator",
    "concurrent",
    "threading",
    "_thread",
    "mmap",
    "fileinput",
    "linecache",
    "inspect",
    "gc",
    "__builtins__",
    "__globals__",
    "__import__",
    "__subclasses__",
];

/// The functions and types of Python's `builtins` that only hold data.
const HARMLESS: &[&str] = &[
    "object",
    "set",
    "frozenset",
    "complex",
    "bytearray",
    "bytes",
    "slice",
    "range",
    "xrange",
    "list",
    "tuple",
    "dict",
    "int",
    "long",
    "float",
    "str",
    "unicode",
    "bool",
    "type",
    "print",
    "len",
    "sum",
    "min",
    "max",
    "abs",
    // Python 3.11 pickles a member of an enumeration as `getattr(Class, "NAME")`.
    "getattr",
];

/// Forbidden functions in modules that otherwise hold data.
const FORBIDDEN_FUNCTIONS: &[(&str, &str)] = &[
    ("types", "FunctionType"),
    ("types", "CodeType"),
    ("types", "LambdaType"),
    ("io", "open"),
    ("_io", "open"),
    ("_io", "FileIO"),
    ("io", "FileIO"),
    ("codecs", "open"),
    ("numpy", "load"),
    ("numpy", "fromfile"),
    ("numpy", "loadtxt"),
    ("numpy", "save"),
    ("torch", "load"),
    ("torch", "save"),
    ("torch.serialization", "load"),
    ("torch.hub", "load"),
    ("torch.jit", "load"),
];

/// Fails if the class serves an attack. The error names the class.
pub(super) fn check(module: &str, name: &str) -> Result<(), String> {
    let is_forbidden = match module {
        "builtins" | "__builtin__" => {
            // Exceptions are classes that hold data.
            let is_class = name.starts_with(char::is_uppercase) && !name.contains('.');
            !is_class && !HARMLESS.contains(&name)
        }
        _ => {
            // A package may have its own module called `code` or `profile`, so only the root of the module path
            // counts. A name with dots reaches through its module into another, such as `torch.serialization`
            // or `os.system`, so all its parts count.
            let root = module.split('.').take(1);
            let through = name.split('.').filter(|_| name.contains('.'));
            root.chain(through).any(|part| FORBIDDEN.contains(&part))
                || module.starts_with("numpy.testing")
                || module.starts_with("numpy.f2py")
                || FORBIDDEN_FUNCTIONS.contains(&(module, name))
        }
    };
    if is_forbidden {
        return Err(format!(
            "opening it in Python would call `{module}.{name}`, which can run any program; do not open it, \
             and get the weights from somebody you trust"
        ));
    }
    Ok(())
}
