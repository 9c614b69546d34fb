//! Which optimizer, with which settings.

use serde::{Deserialize, Serialize};

use crate::Result;
use crate::error::require;

/// Which optimizer, with which settings; names and defaults are PyTorch's.
///
/// In a recipe: `optimizer = { name = "sgd", lr = 0.001, momentum = 0.9 }`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(
    tag = "name",
    rename_all = "snake_case",
    deny_unknown_fields,
    expecting = "a table such as { name = \"sgd\", lr = 0.001 }"
)]
pub enum OptimizerConfig {
    /// Stochastic gradient descent.
    Sgd {
        /// Learning rate, positive.
        lr: f64,
        /// Share of the last direction that stays, in `0.0..1.0`.
        #[serde(default)]
        momentum: f64,
        /// Factor of the parameter that is added to its gradient.
        #[serde(default)]
        weight_decay: f64,
        /// Whether to look ahead along the momentum.
        #[serde(default)]
        nesterov: bool,
        /// Share of the gradient that does not enter the momentum, in `0.0..=1.0`.
        #[serde(default)]
        dampening: f64,
    },
    /// Adam; weight decay is added to the gradient.
    Adam {
        /// Learning rate, positive.
        lr: f64,
        /// Decay of the running means of gradients and of squared gradients, each in `0.0..1.0`.
        #[serde(default = "default_betas")]
        betas: [f64; 2],
        /// Added to the divisor.
        #[serde(default = "default_eps")]
        eps: f64,
        /// Factor of the parameter that is added to its gradient.
        #[serde(default)]
        weight_decay: f64,
    },
    /// Adam with decoupled weight decay.
    #[serde(rename = "adamw")]
    AdamW {
        /// Learning rate, positive.
        lr: f64,
        /// Decay of the running means of gradients and of squared gradients, each in `0.0..1.0`.
        #[serde(default = "default_betas")]
        betas: [f64; 2],
        /// Added to the divisor.
        #[serde(default = "default_eps")]
        eps: f64,
        /// Factor, times the learning rate, by which a parameter shrinks in each step.
        #[serde(default = "default_decoupled_weight_decay")]
        weight_decay: f64,
    },
}

fn default_betas() -> [f64; 2] {
    [0.9, 0.999]
}

fn default_eps() -> f64 {
    1e-8
}

fn default_decoupled_weight_decay() -> f64 {
    1e-2
}

impl OptimizerConfig {
    /// SGD with momentum, nothing else.
    pub fn sgd(lr: f64, momentum: f64) -> Self {
        Self::Sgd { lr, momentum, weight_decay: 0.0, nesterov: false, dampening: 0.0 }
    }

    /// Adam with PyTorch's defaults.
    pub fn adam(lr: f64) -> Self {
        Self::Adam { lr, betas: default_betas(), eps: default_eps(), weight_decay: 0.0 }
    }

    /// AdamW with PyTorch's defaults.
    pub fn adamw(lr: f64) -> Self {
        let weight_decay = default_decoupled_weight_decay();
        Self::AdamW { lr, betas: default_betas(), eps: default_eps(), weight_decay }
    }

    /// The learning rate it begins with.
    pub fn lr(&self) -> f64 {
        match *self {
            Self::Sgd { lr, .. } | Self::Adam { lr, .. } | Self::AdamW { lr, .. } => lr,
        }
    }

    /// The weight decay of parameters in no special group.
    pub fn weight_decay(&self) -> f64 {
        match *self {
            Self::Sgd { weight_decay, .. }
            | Self::Adam { weight_decay, .. }
            | Self::AdamW { weight_decay, .. } => weight_decay,
        }
    }

    /// What it remembers of each parameter, in the order its step takes them.
    pub(crate) fn state_names(&self) -> &'static [&'static str] {
        match *self {
            Self::Sgd { momentum: 0.0, .. } => &[],
            Self::Sgd { .. } => &["momentum"],
            Self::Adam { .. } | Self::AdamW { .. } => &["exp_avg", "exp_avg_sq"],
        }
    }

    /// Checks every value.
    ///
    /// # Errors
    /// If one is impossible; the error names it.
    pub fn validate(&self) -> Result<()> {
        require_rate("optimizer.lr", self.lr())?;
        require_decay("optimizer.weight_decay", self.weight_decay())?;
        match *self {
            Self::Sgd { momentum, nesterov, dampening, .. } => {
                let fraction = "in 0..1, 1 excluded";
                require((0.0..1.0).contains(&momentum), "optimizer.momentum", momentum, fraction)?;
                let in_range = (0.0..=1.0).contains(&dampening);
                require(in_range, "optimizer.dampening", dampening, "in 0..=1")?;
                let possible = !nesterov || (momentum > 0.0 && dampening == 0.0);
                let expected = "false unless there is momentum and no dampening";
                require(possible, "optimizer.nesterov", nesterov, expected)
            }
            Self::Adam { betas, eps, .. } | Self::AdamW { betas, eps, .. } => {
                let in_range = betas.iter().all(|beta| (0.0..1.0).contains(beta));
                let expected = "two numbers in 0..1, 1 excluded";
                require(in_range, "optimizer.betas", format!("{betas:?}"), expected)?;
                let positive = eps > 0.0 && eps.is_finite();
                require(positive, "optimizer.eps", eps, "a positive number")
            }
        }
    }
}

pub(crate) fn require_rate(setting: &str, lr: f64) -> Result<()> {
    require(lr > 0.0 && lr.is_finite(), setting, lr, "a positive number, such as 0.001")
}

pub(crate) fn require_decay(setting: &str, decay: f64) -> Result<()> {
    require(decay >= 0.0 && decay.is_finite(), setting, decay, "0 or a positive number")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<OptimizerConfig, toml::de::Error> {
        toml::from_str(text)
    }

    #[test]
    fn defaults_are_pytorchs() {
        let sgd = parse("name = 'sgd'\nlr = 0.1").unwrap();
        assert_eq!(sgd, OptimizerConfig::sgd(0.1, 0.0));
        assert_eq!(parse("name = 'adam'\nlr = 1").unwrap(), OptimizerConfig::adam(1.0));
        let adamw = parse("name = 'adamw'\nlr = 0.1").unwrap();
        assert_eq!(adamw, OptimizerConfig::adamw(0.1));
        assert_eq!(adamw.weight_decay(), 0.01);
    }

    #[test]
    fn unknown_names_and_keys_are_refused() {
        for (text, named) in [
            ("name = 'sgdd'\nlr = 0.1", "sgdd"),
            ("name = 'sgd'\nlr = 0.1\nmomentun = 0.9", "momentun"),
            ("name = 'adam'\nlr = 0.1\nmomentum = 0.9", "momentum"),
            ("name = 'adam'", "lr"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.message().contains(named), "{error}");
        }
    }

    #[track_caller]
    fn check_refused(text: &str, expected: &str) {
        let error = parse(text).unwrap().validate().unwrap_err();
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn impossible_values_are_named() {
        let rate = "it must be a positive number, such as 0.001";
        check_refused("name = 'sgd'\nlr = 0.0", &format!("`optimizer.lr` is 0; {rate}"));
        check_refused("name = 'adam'\nlr = nan", &format!("`optimizer.lr` is NaN; {rate}"));
        check_refused("name = 'adam'\nlr = -1.0", &format!("`optimizer.lr` is -1; {rate}"));
        check_refused(
            "name = 'sgd'\nlr = 0.1\nmomentum = 1.0",
            "`optimizer.momentum` is 1; it must be in 0..1, 1 excluded",
        );
        check_refused(
            "name = 'sgd'\nlr = 0.1\nnesterov = true",
            "`optimizer.nesterov` is true; it must be false unless there is momentum and no dampening",
        );
        check_refused(
            "name = 'adamw'\nlr = 0.1\nbetas = [0.9, 1.0]",
            "`optimizer.betas` is [0.9, 1.0]; it must be two numbers in 0..1, 1 excluded",
        );
        check_refused(
            "name = 'sgd'\nlr = 0.1\nweight_decay = -0.1",
            "`optimizer.weight_decay` is -0.1; it must be 0 or a positive number",
        );
    }
}
