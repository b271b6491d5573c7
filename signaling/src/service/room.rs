//! How many connections there may be, in all and of one address.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex},
};

use super::{handshake::Refusal, hub::lock};
use crate::{address, defaults};

/// The seats of all hubs.
#[derive(Debug, Default)]
pub(super) struct Room(Arc<Mutex<Seats>>);

#[derive(Debug, Default)]
struct Seats {
    taken: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// Room for one connection, given back when dropped.
#[derive(Debug)]
pub(super) struct Seat {
    seats: Arc<Mutex<Seats>>,
    address: Option<IpAddr>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut seats = lock(&self.seats);
        seats.taken -= 1;
        if let Some(address) = self.address
            && let Some(count) = seats.by_address.get_mut(&address)
        {
            *count -= 1;
            if *count == 0 {
                seats.by_address.remove(&address);
            }
        }
    }
}

impl Room {
    /// Takes room for a connection from this address.
    pub(super) fn take(&self, address: Option<IpAddr>) -> Result<Seat, Refusal> {
        let address = address.map(address::subscriber);
        let mut seats = lock(&self.0);
        if seats.taken >= defaults::MAX_CONNECTIONS {
            return Err(Refusal::Full);
        }
        if let Some(address) = address {
            let count = seats.by_address.entry(address).or_default();
            if *count >= defaults::MAX_CONNECTIONS_PER_ADDRESS {
                return Err(Refusal::AddressFull);
            }
            *count += 1;
        }
        seats.taken += 1;
        Ok(Seat { seats: Arc::clone(&self.0), address })
    }
}
