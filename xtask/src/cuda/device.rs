//! The flags that choose the device. They are the same for every task that runs networks.

/// Where a task runs, and with that how the program is built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Device {
    /// The first card if this machine has all that CUDA needs, else the CPU.
    Auto,
    Cpu,
    /// The card of this number, or the first.
    Cuda(Option<u32>),
}

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct DeviceArguments {
    /// auto, cpu, cuda or cuda:N; auto takes the first CUDA card where a toolkit and a driver are
    /// found, and builds accordingly
    #[arg(long, value_name = "DEVICE", value_parser = parse, conflicts_with_all = ["cpu", "cuda"])]
    device: Option<Device>,
    /// Build without CUDA: --device cpu
    #[arg(long, conflicts_with = "cuda")]
    cpu: bool,
    /// Build with CUDA, also where no driver is found: --device cuda
    #[arg(long)]
    cuda: bool,
}

impl DeviceArguments {
    pub(crate) fn device(&self) -> Device {
        match &self.device {
            Some(device) => device.clone(),
            None if self.cpu => Device::Cpu,
            None if self.cuda => Device::Cuda(None),
            None => Device::Auto,
        }
    }
}

impl Device {
    /// The device as an argument of the started programs.
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Auto => "auto".to_owned(),
            Self::Cpu => "cpu".to_owned(),
            Self::Cuda(None) => "cuda".to_owned(),
            Self::Cuda(Some(number)) => format!("cuda:{number}"),
        }
    }
}

fn parse(text: &str) -> Result<Device, String> {
    match text {
        "auto" => Ok(Device::Auto),
        "cpu" => Ok(Device::Cpu),
        "cuda" => Ok(Device::Cuda(None)),
        _ => match text.strip_prefix("cuda:").map(str::parse) {
            Some(Ok(number)) => Ok(Device::Cuda(Some(number))),
            _ => Err("use auto, cpu, cuda or cuda:N".to_owned()),
        },
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        device: DeviceArguments,
    }

    fn parsed(words: &[&str]) -> Option<Device> {
        let words = ["xtask"].iter().chain(words);
        Program::try_parse_from(words).ok().map(|program| program.device.device())
    }

    #[test]
    fn a_device_is_chosen_in_one_way() {
        assert_eq!(parsed(&[]), Some(Device::Auto));
        assert_eq!(parsed(&["--cpu"]), Some(Device::Cpu));
        assert_eq!(parsed(&["--cuda"]), Some(Device::Cuda(None)));
        for name in ["auto", "cpu", "cuda", "cuda:3"] {
            assert_eq!(parsed(&["--device", name]).unwrap().text(), name);
        }
        for words in [["--cpu", "--cuda"], ["--cpu", "--device=cuda"], ["--cuda", "--device=cpu"]] {
            assert_eq!(parsed(&words), None, "{words:?}");
        }
        for name in ["gpu", "cuda:", "cuda:-1", "cuda:x"] {
            assert_eq!(parsed(&["--device", name]), None, "{name}");
        }
    }
}
