//! Folder names out of file names.

/// Longest slug, in bytes.
const MAX: usize = 80;

/// The first of `tide`, `tide-2`, `tide-3`, … for which `mine` holds: it is free, or belongs to this file.
pub(super) fn free(file: &str, mine: impl Fn(&str) -> bool) -> String {
    let base = slug(file);
    if mine(&base) {
        return base;
    }
    (2u64..).map(|number| format!("{base}-{number}")).find(|slug| mine(slug)).unwrap_or(base)
}

/// Lower-case ASCII letters, digits and single dashes; `video` if nothing is left.
fn slug(file: &str) -> String {
    let stem = file.rsplit_once('.').map_or(file, |(stem, _)| if stem.is_empty() { file } else { stem });
    let mut slug = String::new();
    for char in stem.chars() {
        if slug.len() >= MAX {
            break;
        }
        if char.is_ascii_alphanumeric() {
            slug.push(char.to_ascii_lowercase());
        } else if !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
    }
    let slug = slug.trim_end_matches('-');
    if slug.is_empty() { "video".to_owned() } else { slug.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slug_is_safe_whatever_the_file_is_called() {
        for (file, expected) in [
            ("Big Buck Bunny.mp4", "big-buck-bunny"),
            ("-y;$(x).mp4", "y-x"),
            ("..etc.mp4", "etc"),
            ("élan.mov", "lan"),
            ("日本.mp4", "video"),
            (".mp4", "mp4"),
            ("a..b.mkv", "a-b"),
            ("", "video"),
        ] {
            assert_eq!(slug(file), expected, "{file}");
        }
        assert!(slug(&"x".repeat(500)).len() <= MAX);
    }

    #[test]
    fn another_file_of_the_same_name_gets_a_number() {
        assert_eq!(free("tide.mp4", |slug| slug != "tide"), "tide-2");
        assert_eq!(free("tide.mp4", |_| true), "tide");
    }
}
