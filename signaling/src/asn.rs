//! Which network operator an address belongs to, by a file that the operator of the server has (`asn-db`).

use std::{fmt, net::IpAddr, path::Path, sync::Arc};

use maxminddb::{PathElement, Reader};

/// A MaxMind DB with autonomous system numbers, such as GeoLite2-ASN or DB-IP's. Clones share it.
#[derive(Clone)]
pub struct AsnDatabase(Arc<Reader<Vec<u8>>>);

impl AsnDatabase {
    /// Reads the file into memory (about 10 MB for the whole internet).
    ///
    /// # Errors
    /// It cannot be read, or is no such database.
    pub fn open(path: &Path) -> Result<Self, String> {
        let reader = Reader::open_readfile(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        let kind = &reader.metadata().database_type;
        if !kind.contains("ASN") && !kind.contains("ISP") {
            return Err(format!("{} holds no autonomous systems: it is of type {kind}", path.display()));
        }
        Ok(Self(Arc::new(reader)))
    }

    /// The number of an address's autonomous system, if it is known.
    pub fn number(&self, address: IpAddr) -> Option<u32> {
        let found = self.0.lookup(address).ok()?;
        found.decode_path(&[PathElement::Key("autonomous_system_number")]).ok()?
    }
}

impl fmt::Debug for AsnDatabase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AsnDatabase({})", self.0.metadata().database_type)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A string of the format, up to 28 bytes.
    fn text(text: &str) -> Vec<u8> {
        let mut bytes = vec![2 << 5 | u8::try_from(text.len()).unwrap()];
        bytes.extend(text.as_bytes());
        bytes
    }

    fn number(kind: u8, value: u32) -> Vec<u8> {
        let bytes = value.to_be_bytes();
        // uint16 is 5, uint32 is 6, uint64 is the extended type 9.
        match kind {
            5 => vec![5 << 5 | 2, bytes[2], bytes[3]],
            6 => [vec![6 << 5 | 4], bytes.to_vec()].concat(),
            _ => [vec![4, 2], bytes.to_vec()].concat(),
        }
    }

    /// A database (MaxMind DB 2.0) in which the lower half of IPv4 is one network, and nothing is known of the upper.
    fn database(kind: &str, asn: u32) -> Vec<u8> {
        let nodes = 1u32;
        let data = [vec![7 << 5 | 1], text("autonomous_system_number"), number(6, asn)].concat();
        // A record of 24 bits: behind the nodes and the separator of 16 bytes, the data's offset.
        let (left, right) = (nodes + 16, nodes);
        let tree = [&left.to_be_bytes()[1..], &right.to_be_bytes()[1..]].concat();
        let mut metadata = vec![7 << 5 | 9];
        for (key, value) in [
            ("binary_format_major_version", number(5, 2)),
            ("binary_format_minor_version", number(5, 0)),
            ("build_epoch", number(9, 1_700_000_000)),
            ("database_type", text(kind)),
            ("description", vec![7 << 5]),
            ("ip_version", number(5, 4)),
            ("languages", vec![0, 4]),
            ("node_count", number(6, nodes)),
            ("record_size", number(5, 24)),
        ] {
            metadata.extend(text(key));
            metadata.extend(value);
        }
        [tree, vec![0; 16], data, b"\xab\xcd\xefMaxMind.com".to_vec(), metadata].concat()
    }

    #[test]
    fn an_address_is_looked_up_and_other_databases_are_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), database("GeoLite2-ASN", 64_496)).unwrap();
        let known = AsnDatabase::open(file.path()).unwrap();
        assert_eq!(known.number("10.0.0.1".parse().unwrap()), Some(64_496));
        assert_eq!(known.number("203.0.113.1".parse().unwrap()), None);
        assert_eq!(known.number("2001:db8::1".parse().unwrap()), None);
        std::fs::write(file.path(), database("GeoLite2-City", 1)).unwrap();
        assert!(AsnDatabase::open(file.path()).unwrap_err().contains("GeoLite2-City"));
        std::fs::write(file.path(), b"junk").unwrap();
        assert!(AsnDatabase::open(file.path()).unwrap_err().contains("cannot read"));
    }
}
