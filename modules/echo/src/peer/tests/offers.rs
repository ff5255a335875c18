//! Two hubs with a connection between them, each with clients of its own.
use super::*;

/// The end of the connection, among the clients of each hub.
const LINK: usize = CLIENTS - 1;

/// A hub and who is connected to it. Of the end of the connection only the queues and the peer count.
struct Side {
    hub: Hub,
    clients: Vec<Client>,
}

impl Side {
    fn new(first: u8, speak_v2: [bool; LINK]) -> Self {
        let client = |number: u8| Client::new(first + number, *speak_v2.get(usize::from(number)).unwrap_or(&true));
        let mut side = Self { hub: Hub::new(), clients: (0..CLIENTS as u8).map(client).collect() };
        side.clients[..LINK].iter_mut().for_each(Client::tell);
        side
    }

    fn heads(&self) -> Vec<ChangeHash> {
        self.hub.replica.tail().heads().to_vec()
    }

    /// Offers the document, as to a follower when its heads have moved.
    fn offer(&mut self) -> bool {
        let ours = self.heads();
        let link = &mut self.clients[LINK];
        if ours.is_empty() || link.peer.is_level(&ours) {
            return false;
        }
        let offer = link.peer.offer(&ours);
        let is_new = offer.is_some();
        link.coming.extend(offer);
        is_new
    }

    /// Closes the document for the other, because many others are open; what is on its way arrives.
    fn close(&mut self) {
        self.clients[LINK].peer = Peer::default();
        self.hub.replica.forget(LINK as u64);
    }

    fn disconnect(&mut self) {
        self.clients[LINK].sent.clear();
        self.clients[LINK].coming.clear();
        self.close();
    }
}

/// What a hub sent arrives at the other.
fn carry(sides: &mut [Side; 2]) -> bool {
    let [one, other] = sides.each_mut().map(|side| &mut side.clients[LINK]);
    let moved = !one.coming.is_empty() || !other.coming.is_empty();
    other.sent.append(&mut one.coming);
    one.sent.append(&mut other.coming);
    moved
}

#[derive(Clone, Debug)]
enum Step {
    Put(usize, usize, u8),
    HubTakes(usize, usize, usize),
    ClientTakes(usize, usize),
    Offer(usize),
    Carry,
    Close(usize),
    Disconnect,
    Seal(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..2usize, 0..LINK, any::<u8>()).prop_map(|(side, client, key)| Step::Put(side, client, key)),
        6 => (0..2usize, 0..CLIENTS, 1..4usize).prop_map(|(side, from, count)| Step::HubTakes(side, from, count)),
        3 => (0..2usize, 0..LINK).prop_map(|(side, client)| Step::ClientTakes(side, client)),
        3 => (0..2usize).prop_map(Step::Offer),
        4 => Just(Step::Carry),
        1 => (0..2usize).prop_map(Step::Close),
        1 => Just(Step::Disconnect),
        1 => (0..2usize).prop_map(Step::Seal),
    ];
    prop::collection::vec(step, 0..80)
}

proptest! {
    #[test]
    fn two_hubs_that_offer_what_moved_end_up_with_the_same_and_stop_talking(steps in steps(), v2: [[bool; LINK]; 2]) {
        let mut sides = [Side::new(0, v2[0]), Side::new(10, v2[1])];
        for step in steps {
            match step {
                Step::Put(side, client, key) => sides[side].clients[client].put(key),
                Step::HubTakes(side, from, count) => {
                    let Side { hub, clients } = &mut sides[side];
                    hub.take(clients, from, count);
                }
                Step::ClientTakes(side, client) => drop(sides[side].clients[client].take()),
                Step::Offer(side) => drop(sides[side].offer()),
                Step::Carry => drop(carry(&mut sides)),
                Step::Close(side) => sides[side].close(),
                Step::Disconnect => sides.iter_mut().for_each(Side::disconnect),
                Step::Seal(side) => sides[side].hub.seal(),
            }
        }
        let mut rounds = 0;
        loop {
            let mut moved = false;
            for side in &mut sides {
                for from in 0..CLIENTS {
                    moved |= side.hub.take(&mut side.clients, from, 2);
                }
                for client in &mut side.clients[..LINK] {
                    moved |= client.take();
                }
                moved |= side.offer();
            }
            moved |= carry(&mut sides);
            if !moved {
                break;
            }
            rounds += 1;
            prop_assert!(rounds < 300, "they never stop talking");
        }
        let ours = sides[0].heads();
        for side in &sides {
            prop_assert_eq!(side.heads(), ours.clone());
            prop_assert!(ours.is_empty() || side.clients[LINK].peer.is_level(&ours), "not known to be had");
            for client in &side.clients[..LINK] {
                prop_assert_eq!(client.document.get_heads(), ours.clone());
            }
        }
    }
}
