//! The `[apps]` table.
use std::{collections::BTreeMap, fmt, path::PathBuf, time::Duration};

use bytesize::ByteSize;
use kube_manifest::Missing;
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{DeserializeSeed, Error as _, MapAccess, Visitor, value::MapAccessDeserializer},
    ser::SerializeMap,
};

use crate::name::{Host, Name};

/// The option names of `[apps]` itself: no app can have one of them, since `[apps.NAME]` is the table of an app.
pub(crate) const OPTIONS: [&str; 6] = ["folder", "bundled", "debounce", "largest_file", "largest_app", "most_files"];

/// What a person sets about apps.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The watched folder: one folder an app. A relative path is meant from the data folder.
    pub folder: PathBuf,
    /// Whether the apps that are part of KUBE are served, unless a folder of the same name replaces them.
    pub bundled: bool,
    /// How long a folder must be quiet before it is read.
    pub debounce: Duration,
    /// The largest file that is served; an app with a larger one keeps its version.
    pub largest_file: ByteSize,
    /// The most that the files of one app may weigh together.
    pub largest_app: ByteSize,
    /// The most files and folders in one app.
    pub most_files: usize,
    /// The tables of single apps.
    pub apps: BTreeMap<Name, App>,
    /// Derived: the module's own folder, for blobs and their index.
    pub data: PathBuf,
    /// Derived: the app that is served at the domain itself.
    pub home: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            folder: "apps".into(),
            bundled: true,
            debounce: Duration::from_millis(150),
            largest_file: ByteSize::mib(256),
            largest_app: ByteSize::gib(2),
            most_files: 20_000,
            apps: BTreeMap::new(),
            data: "apps-state".into(),
            home: "welcome".into(),
        }
    }
}

/// The `[apps.NAME]` table: what a person sets about one app.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct App {
    /// Host names besides `NAME.<domain>`.
    pub domains: Vec<Host>,
    /// Who may sync in the app's own space.
    pub sync: Audience,
    /// What a path that names no file gets.
    pub missing: Missing,
}

/// Who may sync in an app's own space.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Audience {
    /// Whoever has a token.
    #[default]
    Private,
    /// Every page of the app, without a token.
    Public,
}

impl Serialize for Config {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("folder", &self.folder)?;
        map.serialize_entry("bundled", &self.bundled)?;
        map.serialize_entry("debounce", &humantime_serde::Serde::from(self.debounce))?;
        map.serialize_entry("largest_file", &self.largest_file)?;
        map.serialize_entry("largest_app", &self.largest_app)?;
        map.serialize_entry("most_files", &self.most_files)?;
        for (name, app) in &self.apps {
            map.serialize_entry(name, app)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Config {
    /// By hand: with `flatten`, an error would lose its line, and a misspelt option would be an app.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Table)
    }
}

struct Table;

impl<'de> Visitor<'de> for Table {
    type Value = Config;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the table [apps]")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Config, A::Error> {
        let mut config = Config::default();
        let mut owners = BTreeMap::new();
        while let Some(key) = map.next_key()? {
            match key {
                Key::Folder => config.folder = map.next_value()?,
                Key::Bundled => config.bundled = map.next_value()?,
                Key::Debounce => config.debounce = map.next_value::<humantime_serde::Serde<Duration>>()?.into_inner(),
                Key::LargestFile => config.largest_file = map.next_value()?,
                Key::LargestApp => config.largest_app = map.next_value()?,
                Key::MostFiles => config.most_files = map.next_value()?,
                Key::App(name) => {
                    let app = map.next_value_seed(OneApp { name: &name, owners: &mut owners })?;
                    config.apps.insert(name, app);
                }
            }
        }
        Ok(config)
    }
}

/// A key of the table: an option, or else an app.
enum Key {
    Folder,
    Bundled,
    Debounce,
    LargestFile,
    LargestApp,
    MostFiles,
    App(Name),
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Key;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an option of [apps], or the name of an app")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Key, E> {
                Ok(match text {
                    "folder" => Key::Folder,
                    "bundled" => Key::Bundled,
                    "debounce" => Key::Debounce,
                    "largest_file" => Key::LargestFile,
                    "largest_app" => Key::LargestApp,
                    "most_files" => Key::MostFiles,
                    name => Key::App(name.parse().map_err(|why| {
                        let options = OPTIONS.join("`, `");
                        E::custom(format!(
                            "`{name}` is no option of [apps] (`{options}`) and cannot be the name of an app: {why}"
                        ))
                    })?),
                })
            }
        }
        deserializer.deserialize_str(Text)
    }
}

/// The value of a key that is no option: the table of the app of that name.
struct OneApp<'a> {
    name: &'a Name,
    /// Which app has which domain, so far.
    owners: &'a mut BTreeMap<Host, Name>,
}

impl<'de> DeserializeSeed<'de> for OneApp<'_> {
    type Value = App;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<App, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for OneApp<'_> {
    type Value = App;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, options) = (self.name, OPTIONS.join("`, `"));
        write!(f, "the table of the app `{name}`, for `{name}` is no option of [apps] (`{options}`)")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<App, A::Error> {
        let app = App::deserialize(MapAccessDeserializer::new(map))?;
        for host in &app.domains {
            if let Some(owner) = self.owners.insert(host.clone(), self.name.clone()) {
                return Err(A::Error::custom(format!("`{host}` is given twice: to `{owner}` and to `{}`", self.name)));
            }
        }
        Ok(app)
    }
}

#[cfg(test)]
mod tests;
