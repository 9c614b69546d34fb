//! A part by name, with its settings.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{did_you_mean, one_line};

/// A part as a recipe or a checkpoint names it: `{ name = "sgd", lr = 0.1, momentum = 0.9 }`.
///
/// A table entry builds the part from it, and the part gives it back with every default filled in. So two
/// descriptions are equal exactly if they mean the same part.
///
/// ```
/// use candle_vision_registry::Description;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Debug, Serialize, Deserialize)]
/// #[serde(deny_unknown_fields)]
/// struct Step { size: usize, #[serde(default = "tenth")] gamma: f64 }
/// fn tenth() -> f64 { 0.1 }
///
/// let read: Description = toml::from_str("name = 'step'\nsize = 7")?;
/// let step: Step = read.settings()?;
/// assert_eq!((step.size, step.gamma), (7, 0.1));
/// let whole = Description::new("step", &step)?;
/// assert_eq!(whole, toml::from_str("name = 'step'\nsize = 7\ngamma = 0.1")?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Description {
    /// The name of the entry that builds the part.
    pub name: String,
    /// Its settings by name. A number that is not finite cannot be held here and counts as missing.
    #[serde(flatten)]
    pub settings: Map<String, Value>,
}

/// Why the settings of a part are not its settings.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the settings of `{}` are wrong: {}", one_line(name), one_line(problem))]
#[non_exhaustive]
pub struct SettingsError {
    /// The part.
    pub name: String,
    /// What is wrong, in one line.
    pub problem: String,
}

impl SettingsError {
    /// An error about the settings of the part `name`.
    pub fn new(name: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { name: name.into(), problem: problem.into() }
    }
}

impl Description {
    /// A part without settings.
    pub fn named(name: impl Into<String>) -> Self {
        Self { name: name.into(), settings: Map::new() }
    }

    /// A part with the fields of `settings`, a struct or a map.
    ///
    /// # Errors
    /// If `settings` has no named fields.
    pub fn new(name: impl Into<String>, settings: &impl Serialize) -> Result<Self, SettingsError> {
        let name = name.into();
        let problem = match serde_json::to_value(settings) {
            Ok(Value::Object(settings)) => return Ok(Self { name, settings }),
            Ok(Value::Null) => return Ok(Self::named(name)),
            Ok(other) => format!("they are `{other}` and not a table"),
            Err(error) => error.to_string(),
        };
        Err(SettingsError { name, problem })
    }

    /// The same part with one more setting.
    ///
    /// ```
    /// # use candle_vision_registry::Description;
    /// let sgd = Description::named("sgd").with("lr", 0.1).with("nesterov", true);
    /// assert_eq!(sgd.settings["lr"], 0.1);
    /// ```
    pub fn with(mut self, setting: &str, value: impl Into<Value>) -> Self {
        self.settings.insert(setting.to_owned(), value.into());
        self
    }

    /// The settings as the struct of the part that they belong to.
    ///
    /// # Errors
    /// If a setting is missing, of another type, or unknown to a struct with `deny_unknown_fields`; the
    /// message names the part, the setting and near names.
    pub fn settings<T: DeserializeOwned>(&self) -> Result<T, SettingsError> {
        let settings = Value::Object(self.settings.clone());
        serde_json::from_value(settings).map_err(|error| self.explained(&error.to_string()))
    }

    /// For a part without settings: that none is given.
    ///
    /// # Errors
    /// If there is a setting.
    pub fn no_settings(&self) -> Result<(), SettingsError> {
        match self.settings.keys().next() {
            None => Ok(()),
            Some(setting) => Err(SettingsError::new(
                &self.name,
                format!("it has none, but `{setting}` is given"),
            )),
        }
    }

    /// serde lists the known fields of an unknown one; the nearest of them come first here.
    fn explained(&self, message: &str) -> SettingsError {
        let mut problem = message.split_whitespace().collect::<Vec<_>>().join(" ");
        if let Some(rest) = problem.strip_prefix("unknown field `") {
            let mut quoted = rest.split('`');
            let unknown = quoted.next().unwrap_or_default().to_owned();
            let known: Vec<&str> = quoted.skip(1).step_by(2).collect();
            let near = did_you_mean(&unknown, known.iter().copied());
            if !near.is_empty() {
                problem = format!("unknown field `{unknown}`{near}");
            }
        }
        SettingsError { name: self.name.clone(), problem }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Sgd {
        lr: f64,
        #[serde(default)]
        momentum: f64,
    }

    fn read(text: &str) -> Description {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn whole_numbers_are_floats_where_floats_are_asked_for() {
        let sgd: Sgd = read("name = 'sgd'\nlr = 1").settings().unwrap();
        assert_eq!(sgd, Sgd { lr: 1.0, momentum: 0.0 });
    }

    #[test]
    fn what_is_wrong_is_named_in_one_line() {
        for (text, expected) in [
            ("lr = 1\nmomentun = 0.9", "unknown field `momentun`; did you mean `momentum`?"),
            ("momentum = 0.9", "missing field `lr`"),
            ("lr = 'fast'", "invalid type: string \"fast\", expected f64"),
            ("lr = inf", "invalid type: null, expected f64"),
        ] {
            let error = read(&format!("name = 'sgd'\n{text}")).settings::<Sgd>().unwrap_err();
            assert_eq!(error.to_string(), format!("the settings of `sgd` are wrong: {expected}"));
        }
    }

    #[test]
    fn a_description_survives_both_formats() {
        let sgd = Description::new("sgd", &Sgd { lr: 0.1, momentum: 0.9 }).unwrap();
        assert_eq!(read(&toml::to_string(&sgd).unwrap()), sgd);
        let json = serde_json::to_string(&sgd).unwrap();
        assert!(json.starts_with(r#"{"name":"sgd","lr":0.1"#), "{json}");
        assert_eq!(serde_json::from_str::<Description>(&json).unwrap(), sgd);
    }

    #[test]
    fn a_part_without_settings_takes_none() {
        read("name = 'constant'").no_settings().unwrap();
        let error = read("name = 'constant'\nlr = 1").no_settings().unwrap_err();
        assert!(error.to_string().contains("`lr` is given"), "{error}");
        assert!(Description::new("list", &[1, 2]).is_err());
    }
}
