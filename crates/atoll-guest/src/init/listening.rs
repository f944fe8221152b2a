//! TCP ports in LISTEN, from `/proc/net/tcp` and `/proc/net/tcp6`.

use std::collections::BTreeMap;
use std::io::Read as _;

use atoll_guest::protocol::ListeningPort;

const TABLE_BYTES_MAX: u64 = 4 * 1024 * 1024;

const STATE_LISTEN: &str = "0A";

/// Ports of this network namespace, by number.
pub(crate) fn ports() -> std::io::Result<Vec<ListeningPort>> {
    let mut tables = read_table("/proc/net/tcp")?;
    // Without IPv6 there is no second table.
    tables.push_str(&read_table("/proc/net/tcp6").unwrap_or_default());
    Ok(parse(&tables))
}

fn read_table(path: &str) -> std::io::Result<String> {
    let mut text = String::new();
    std::fs::File::open(path)?.take(TABLE_BYTES_MAX).read_to_string(&mut text)?;
    Ok(text)
}

fn parse(tables: &str) -> Vec<ListeningPort> {
    let mut loopback_only: BTreeMap<u16, bool> = BTreeMap::new();
    for line in tables.lines() {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let (Some(local), Some(STATE_LISTEN)) = (fields.next(), fields.nth(1)) else { continue };
        let Some((address, port)) = local.split_once(':') else { continue };
        let Ok(port) = u16::from_str_radix(port, 16) else { continue };
        *loopback_only.entry(port).or_insert(true) &= is_loopback(address);
    }
    loopback_only.into_iter().map(|(port, loopback_only)| ListeningPort { port, loopback_only }).collect()
}

/// Addresses are written as 32-bit words in the machine's byte order.
fn is_loopback(address: &str) -> bool {
    let word = |hex: &str| u32::from_str_radix(hex, 16).map(u32::to_ne_bytes);
    match address.len() {
        8 => word(address).is_ok_and(|[first, ..]| first == 127),
        32 => {
            let words: Vec<[u8; 4]> = (0..4).filter_map(|at| word(&address[at * 8..at * 8 + 8]).ok()).collect();
            words.as_flattened().try_into().is_ok_and(|bytes: [u8; 16]| {
                let address = std::net::Ipv6Addr::from(bytes);
                address.is_loopback() || address.to_ipv4_mapped().is_some_and(|mapped| mapped.is_loopback())
            })
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_endian = "little")]
    #[test]
    fn listening_sockets_are_found_and_others_are_not() {
        let tables = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 1 1 0 100 0 0 10 0
   1: 00000000:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 2 1 0 100 0 0 10 0
   2: 0100007F:1F90 0100007F:D431 01 00000000:00000000 00:00000000 00000000  1000        0 3 1 0 100 0 0 10 0
  sl  local_address                         remote_address                        st
   0: 00000000000000000000000001000000:2329 00000000000000000000000000000000:0000 0A 00000000:00000000
   1: 0000000000000000FFFF00000100007F:232A 00000000000000000000000000000000:0000 0A 00000000:00000000
   2: 00000000000000000000000000000000:1F90 00000000000000000000000000000000:0000 0A 00000000:00000000
";
        let port = |port, loopback_only| ListeningPort { port, loopback_only };
        assert_eq!(parse(tables), [port(80, false), port(8080, false), port(9001, true), port(9002, true)]);
    }

    #[test]
    fn this_machine_has_a_table() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(ports().unwrap().contains(&ListeningPort { port, loopback_only: true }));
    }
}
