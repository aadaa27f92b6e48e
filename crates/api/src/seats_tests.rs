use super::*;

fn is_here(seat: &Seat) -> bool {
    !seat.leave.is_cancelled()
}

#[test]
fn strangers_make_room_first_and_the_oldest_of_them() {
    let seats = Seats::new(3);
    let known = seats.take().unwrap();
    drop(known.serve());
    let (first, second) = (seats.take().unwrap(), seats.take().unwrap());
    let third = seats.take().unwrap();
    assert!(is_here(&known) && !is_here(&first) && is_here(&second));
    let more = [seats.take().unwrap(), seats.take().unwrap()];
    assert!(is_here(&known) && !is_here(&second) && !is_here(&third));
    // Those whose seat is gone leave nothing behind and take nothing away.
    drop((first, second, third));
    assert_eq!(seats.taken.lock().guests.len(), 3);
    drop(more);
    drop(known);
    assert!(seats.taken.lock().guests.is_empty());
}

#[test]
fn who_is_served_keeps_the_seat() {
    let seats = Seats::new(2);
    let (one, other) = (seats.take().unwrap(), seats.take().unwrap());
    let (service, other_service) = (one.serve(), other.serve());
    assert!(seats.take().is_none());
    drop(other_service);
    let newcomer = seats.take().unwrap();
    assert!(is_here(&one) && !is_here(&other) && is_here(&newcomer));
    drop(service);
}
