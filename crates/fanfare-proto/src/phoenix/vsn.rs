//! The `vsn` parameter: which version of the protocol a client asks for.

use super::message::Version;

impl Version {
    /// Reads the `vsn` parameter: a semantic version `X.Y.Z`, a build suffix allowed, pre-releases not. Absent means
    /// 1.0.0. Any `1.0.z` is [`Version::V1`], any `2.0.z` [`Version::V2`]; everything else is `None` and is to be
    /// refused.
    pub fn parse(vsn: Option<&str>) -> Option<Self> {
        let vsn = match vsn {
            // What clients send.
            None | Some("1.0.0") => return Some(Self::V1),
            Some("2.0.0") => return Some(Self::V2),
            Some(vsn) => vsn,
        };
        let core = match vsn.split_once('+') {
            Some((core, build)) if is_build(build) => core,
            Some(_) => return None,
            None => vsn,
        };
        let mut parts = core.split('.');
        let (major, minor, patch) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() || minor != "0" || !is_number(patch) {
            return None;
        }
        match major {
            "1" => Some(Self::V1),
            "2" => Some(Self::V2),
            _ => None,
        }
    }
}

fn is_number(text: &str) -> bool {
    text == "0" || (!text.is_empty() && !text.starts_with('0') && text.bytes().all(|byte| byte.is_ascii_digit()))
}

fn is_build(text: &str) -> bool {
    let is_identifier = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    text.split('.').all(is_identifier)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        #[track_caller]
        fn check(vsn: impl Into<Option<&'static str>>, expected: Option<Version>) {
            let vsn = vsn.into();
            assert_eq!(Version::parse(vsn), expected, "{vsn:?}");
        }
        check(None, Some(Version::V1));
        check("1.0.0", Some(Version::V1));
        check("1.0.7", Some(Version::V1));
        check("2.0.0", Some(Version::V2));
        check("2.0.10", Some(Version::V2));
        check("2.0.0+x", Some(Version::V2));
        check("2.0.0+x.1-a", Some(Version::V2));
        check("2.0.99999999999999999999999", Some(Version::V2));
        check("2.0.0-rc.1", None);
        check("2.0.0-rc+x", None);
        check("2.0.0+", None);
        check("2.0.0+a..b", None);
        check("2.0.0 x", None);
        check("2.0.0+a+b", None);
        check("2", None);
        check("2.0", None);
        check("2.0.", None);
        check("2.0.0.0", None);
        check("02.0.0", None);
        check("2.0.00", None);
        check("2.00.0", None);
        check("2.1.0", None);
        check("1.1.0", None);
        check("3.0.0", None);
        check("0.0.0", None);
        check("", None);
        check("foo", None);
        check(" 2.0.0", None);
        check("2.0.0 ", None);
        check("v2.0.0", None);
        check("2.0.-1", None);
        check("2.0.٣", None);
    }
}
