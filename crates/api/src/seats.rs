//! The seats at a door. There are so many; when all are taken, a newcomer gets the seat of
//! somebody who makes no use of it, strangers first. So no crowd of strangers keeps a caller out.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

/// All seats of one door.
#[derive(Debug)]
pub struct Seats {
    most: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    next: u64,
    /// By order of arrival.
    guests: BTreeMap<u64, Guest>,
}

#[derive(Debug, Default)]
struct Guest {
    leave: CancellationToken,
    /// Gave a right password at least once.
    known: bool,
    /// A request of a known caller is being answered.
    served: bool,
}

impl Seats {
    /// `most` seats, all free.
    pub fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, taken: Mutex::default() })
    }

    /// A seat for a newcomer, if need be that of who has been here longest among those who are
    /// not being served: of the strangers, or if there are none, of the others. `None` if all
    /// are being served.
    pub fn take(self: &Arc<Self>) -> Option<Seat> {
        let mut taken = self.taken.lock();
        if taken.guests.len() >= self.most {
            let idle = taken.guests.iter().filter(|(_, guest)| !guest.served);
            let (number, _) = idle.min_by_key(|(number, guest)| (guest.known, **number))?;
            let number = *number;
            if let Some(guest) = taken.guests.remove(&number) {
                guest.leave.cancel();
            }
        }
        let number = taken.next;
        taken.next += 1;
        let guest = Guest::default();
        let leave = guest.leave.clone();
        taken.guests.insert(number, guest);
        Some(Seat { seats: Arc::clone(self), number, leave })
    }

    fn set_served(&self, number: u64, served: bool) {
        // Gone if the seat was given away meanwhile.
        if let Some(guest) = self.taken.lock().guests.get_mut(&number) {
            guest.known = true;
            guest.served = served;
        }
    }
}

/// One seat, free again when dropped.
#[derive(Debug)]
pub struct Seat {
    seats: Arc<Seats>,
    number: u64,
    leave: CancellationToken,
}

impl Seat {
    /// Completes when the seat was given to somebody else.
    pub async fn given_away(&self) {
        self.leave.cancelled().await;
    }

    /// The caller gave a right password: the seat is kept until what is returned is dropped.
    pub fn serve(&self) -> Service<'_> {
        self.seats.set_served(self.number, true);
        Service(self)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.seats.taken.lock().guests.remove(&self.number);
    }
}

/// A request under way.
#[derive(Debug)]
pub struct Service<'a>(&'a Seat);

impl Drop for Service<'_> {
    fn drop(&mut self) {
        self.0.seats.set_served(self.0.number, false);
    }
}

#[cfg(test)]
#[path = "seats_tests.rs"]
mod tests;
