//! One declaration per mechanism, from which its struct, its reader and its printer are made.

use std::collections::BTreeMap;
use std::path::PathBuf;

use promontory_model::Duration;
use serde_yaml::Value;

use super::clouds::AwsAccount;
use crate::decode::{Field, Fields};
use crate::http_client::{self, HttpClientConfig, Secret};
use crate::print::{self, Map};

/// A map of known fields: an entry of `<name>_sd_configs`, or a part of one.
pub(crate) trait SettingMap: Sized {
    /// What the fields say, of which there may be others.
    fn read_from(fields: &Fields<'_>) -> Self;
    fn print_into(&self, map: &mut Map);

    fn read(field: &Field<'_>) -> Option<Self> {
        let fields = field.fields()?;
        let settings = Self::read_from(&fields);
        fields.finish(&[]);
        Some(settings)
    }

    fn print(&self) -> Map {
        let mut map = Map::default();
        self.print_into(&mut map);
        map
    }
}

/// A value of one field.
pub(crate) trait Setting: Sized {
    /// The field `key`; `None` when it is absent or wrong, and then the default holds.
    fn read(fields: &Fields<'_>, key: &'static str) -> Option<Self>;
    /// Puts it into `map`, unless it asks for nothing, and so does what holds when it is absent.
    fn print(&self, key: &str, default: &Self, map: &mut Map);
}

/// Declares settings: the struct, and how it is read and printed. `as` gives the key where it is not the name of the
/// field; `port` adds the default port of targets, `every` the time between two looks in seconds, `over http` how to
/// connect, as entries of most mechanisms have them; `of amazon` besides who asks; `check` looks at what was read and
/// notes what is wrong with it.
macro_rules! settings {
    ($(#[$meta:meta])* $name:ident {
        $($(#[$field_meta:meta])* $field:ident $(as $key:literal)? : $type:ty = $default:expr,)*
    } port $port:literal every $every:literal of amazon) => {
        settings! {
            $(#[$meta])* $name {
                /// Who asks, and where.
                account: crate::discovery::AwsAccount = crate::discovery::AwsAccount::default(),
                $($(#[$field_meta])* $field $(as $key)? : $type = $default,)*
            } port $port every $every over http
        }
    };
    ($(#[$meta:meta])* $name:ident {
        $($(#[$field_meta:meta])* $field:ident $(as $key:literal)? : $type:ty = $default:expr,)*
    } port $port:literal every $($more:tt)*) => {
        settings! {
            $(#[$meta])* $name {
                $($(#[$field_meta])* $field $(as $key)? : $type = $default,)*
                /// Port of targets that name none.
                port: u16 = $port,
            } every $($more)*
        }
    };
    ($(#[$meta:meta])* $name:ident {
        $($(#[$field_meta:meta])* $field:ident $(as $key:literal)? : $type:ty = $default:expr,)*
    } every $every:literal over http $($more:tt)*) => {
        settings! {
            $(#[$meta])* $name {
                $($(#[$field_meta])* $field $(as $key)? : $type = $default,)*
                /// Time between two looks.
                refresh_interval: promontory_model::Duration = promontory_model::Duration::from_secs($every),
                /// How the connection is made and authorised.
                http: crate::http_client::HttpClientConfig = crate::http_client::HttpClientConfig::default(),
            } polled $($more)*
        }
    };
    ($(#[$meta:meta])* $name:ident {
        $($(#[$field_meta:meta])* $field:ident $(as $key:literal)? : $type:ty = $default:expr,)*
    } every $every:literal $($more:tt)*) => {
        settings! {
            $(#[$meta])* $name {
                $($(#[$field_meta])* $field $(as $key)? : $type = $default,)*
                /// Time between two looks.
                refresh_interval: promontory_model::Duration = promontory_model::Duration::from_secs($every),
            } polled $($more)*
        }
    };
    ($(#[$meta:meta])* $name:ident {
        $($(#[$field_meta:meta])* $field:ident $(as $key:literal)? : $type:ty = $default:expr,)*
    } polled $(check $check:expr)?) => {
        settings! {
            $(#[$meta])* $name {
                $($(#[$field_meta])* $field $(as $key)? : $type = $default,)*
            } check |settings, fields| {
                $(
                    let check: fn(&Self, &crate::decode::Fields<'_>) = $check;
                    check(settings, fields);
                )?
                crate::discovery::settings::check_interval(fields, settings.refresh_interval);
            }
        }
    };
    ($(#[$meta:meta])* $name:ident {
        $($(#[$field_meta:meta])* $field:ident $(as $key:literal)? : $type:ty = $default:expr,)*
    } $(check $check:expr)?) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq)]
        pub struct $name {
            $($(#[$field_meta])* pub $field: $type,)*
        }

        impl crate::discovery::settings::SettingMap for $name {
            fn read_from(fields: &crate::decode::Fields<'_>) -> Self {
                use crate::discovery::settings::{Setting, key};
                let settings = Self {
                    $($field: <$type as Setting>::read(fields, key!($field $($key)?)).unwrap_or_else(|| $default),)*
                };
                $(
                    let check: fn(&Self, &crate::decode::Fields<'_>) = $check;
                    check(&settings, fields);
                )?
                settings
            }

            fn print_into(&self, map: &mut crate::print::Map) {
                use crate::discovery::settings::{Setting, key};
                $(Setting::print(&self.$field, key!($field $($key)?), &$default, map);)*
            }
        }
    };
}

macro_rules! key {
    ($field:ident) => {
        stringify!($field)
    };
    ($field:ident $key:literal) => {
        $key
    };
}

/// Declares a value that is one of these names.
macro_rules! choice {
    ($(#[$meta:meta])* $name:ident { $($(#[$variant_meta:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name {
            $($(#[$variant_meta])* $variant,)*
        }

        impl $name {
            /// The name in configuration files.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }

        impl crate::discovery::settings::Setting for $name {
            fn read(fields: &crate::decode::Fields<'_>, key: &'static str) -> Option<Self> {
                fields.get(key)?.one_of(&[$(($text, Self::$variant),)*])
            }

            fn print(&self, key: &str, _default: &Self, map: &mut crate::print::Map) {
                map.put(key, self.as_str());
            }
        }
    };
}

pub(crate) use {choice, key, settings};

/// Notes each of these fields that has no text.
pub(crate) fn require(fields: &Fields<'_>, values: &[(&'static str, &str)]) {
    for (name, value) in values {
        if value.is_empty() {
            fields.missing(name);
        }
    }
}

/// Notes that nothing says which of several kinds of target is wanted.
pub(crate) fn require_role(fields: &Fields<'_>) {
    if fields.get("role").is_none() {
        fields.missing("role");
    }
}

/// Notes that `name` is no address of a server of the web, if it is none.
pub(crate) fn check_url(fields: &Fields<'_>, name: &'static str, url: &str) {
    let host = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
    if host.is_none_or(|host| host.is_empty() || host.starts_with('/'))
        && let Some(field) = fields.get(name)
        && !url.is_empty()
    {
        field.rule(format!("{url:?} is not a URL that begins with http:// or https:// and names a host"));
    }
}

/// Notes a time between two looks that is none.
pub(crate) fn check_interval(fields: &Fields<'_>, interval: Duration) {
    if interval.ms() <= 0
        && let Some(field) = fields.get("refresh_interval")
    {
        field.rule("refresh_interval must be above 0");
    }
}

impl Setting for String {
    fn read(fields: &Fields<'_>, key: &'static str) -> Option<Self> {
        fields.get(key)?.text().map(str::to_owned)
    }

    fn print(&self, key: &str, default: &Self, map: &mut Map) {
        if !self.is_empty() || !default.is_empty() {
            map.put(key, self.as_str());
        }
    }
}

impl Setting for bool {
    fn read(fields: &Fields<'_>, key: &'static str) -> Option<Self> {
        fields.get(key)?.bool()
    }

    fn print(&self, key: &str, _default: &Self, map: &mut Map) {
        map.put(key, *self);
    }
}

fn read_small(field: &Field<'_>) -> Option<u16> {
    let number = field.u64()?;
    let small = u16::try_from(number).ok();
    if small.is_none() {
        field.rule(format!("{number} is more than 65535"));
    }
    small
}

impl Setting for u16 {
    fn read(fields: &Fields<'_>, key: &'static str) -> Option<Self> {
        read_small(&fields.get(key)?)
    }

    fn print(&self, key: &str, _default: &Self, map: &mut Map) {
        map.put(key, *self);
    }
}

impl Setting for Duration {
    fn read(fields: &Fields<'_>, key: &'static str) -> Option<Self> {
        fields.get(key)?.duration()
    }

    fn print(&self, key: &str, _default: &Self, map: &mut Map) {
        map.put(key, self.to_string());
    }
}

impl Setting for Option<Secret> {
    fn read(fields: &Fields<'_>, key: &'static str) -> Option<Self> {
        fields.text(key).map(|text| Some(Secret::new(text)))
    }

    fn print(&self, key: &str, _default: &Self, map: &mut Map) {
        map.some(key, self.as_ref().map(|_| http_client::SECRET_MASK));
    }
}

impl Setting for Option<PathBuf> {
    fn read(fields: &Fields<'_>, key: &'static str) -> Option<Self> {
        fields.path_buf(key).map(Some)
    }

    fn print(&self, key: &str, _default: &Self, map: &mut Map) {
        map.some(key, self.as_ref().map(|path| path.display().to_string()));
    }
}

impl Setting for Vec<String> {
    fn read(fields: &Fields<'_>, key: &'static str) -> Option<Self> {
        Some(fields.get(key)?.texts())
    }

    fn print(&self, key: &str, _default: &Self, map: &mut Map) {
        map.list(key, self.iter().map(String::as_str));
    }
}

impl Setting for Vec<u16> {
    fn read(fields: &Fields<'_>, key: &'static str) -> Option<Self> {
        Some(fields.get(key)?.list().iter().filter_map(read_small).collect())
    }

    fn print(&self, key: &str, _default: &Self, map: &mut Map) {
        map.list(key, self.iter().copied());
    }
}

impl Setting for BTreeMap<String, String> {
    fn read(fields: &Fields<'_>, key: &'static str) -> Option<Self> {
        let entries = fields.get(key)?.entries();
        Some(entries.iter().filter_map(|(name, f)| Some(((*name).to_owned(), f.text()?.to_owned()))).collect())
    }

    fn print(&self, key: &str, _default: &Self, map: &mut Map) {
        let mut inner = Map::default();
        for (name, value) in self {
            inner.put(name, value.as_str());
        }
        map.map(key, inner);
    }
}

/// Stands among the fields of the entry.
impl Setting for AwsAccount {
    fn read(fields: &Fields<'_>, _key: &'static str) -> Option<Self> {
        Some(Self::read_from(fields))
    }

    fn print(&self, _key: &str, _default: &Self, map: &mut Map) {
        self.print_into(map);
    }
}

/// Stands among the fields of the entry.
impl Setting for HttpClientConfig {
    fn read(fields: &Fields<'_>, _key: &'static str) -> Option<Self> {
        Some(http_client::read(fields))
    }

    fn print(&self, _key: &str, _default: &Self, map: &mut Map) {
        print::http_client(map, self);
    }
}

/// A part of an entry.
impl<T: SettingMap> Setting for Option<T> {
    fn read(fields: &Fields<'_>, key: &'static str) -> Option<Self> {
        fields.get(key).map(|field| T::read(&field))
    }

    fn print(&self, key: &str, _default: &Self, map: &mut Map) {
        map.some(key, self.as_ref().map(SettingMap::print));
    }
}

impl<T: SettingMap> Setting for Vec<T> {
    fn read(fields: &Fields<'_>, key: &'static str) -> Option<Self> {
        Some(fields.get(key)?.list().iter().filter_map(T::read).collect())
    }

    fn print(&self, key: &str, _default: &Self, map: &mut Map) {
        map.list(key, self.iter().map(|part| Value::from(part.print())));
    }
}
