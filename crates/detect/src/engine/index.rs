//! What is decided about a value when it arrives: the predicates that announce rules.

use std::net::IpAddr;

use ipnet::IpNet;
use rustc_hash::FxHashMap;

use super::{
    build::Parts,
    grams::{Frequencies, Grams},
    literals::Literals,
    predicate::Decide,
};

/// A value as it is and folded.
#[derive(Clone, Copy)]
pub(crate) struct Value<'v> {
    pub(crate) raw: &'v str,
    pub(crate) folded: &'v [u8],
}

/// Indexed predicates of one field.
#[derive(Default)]
pub(crate) struct FieldIndex {
    grams: Grams,
    equal: FxHashMap<Box<[u8]>, u32>,
    networks: Networks,
    /// Predicates about whether there is a value.
    presence: Vec<(Presence, u32)>,
    /// A byte that is in every value for which something here holds, whatever its case.
    mark: Option<u8>,
}

#[derive(Clone, Copy)]
enum Presence {
    There,
    NotThere,
    Null,
    Empty,
    Filled,
}

impl FieldIndex {
    /// Indexes those predicates of a field that can be.
    pub(crate) fn new(
        parts: &Parts,
        predicates: impl Iterator<Item = u32>,
        frequencies: &Frequencies,
    ) -> Self {
        let mut index = Self::default();
        let mut wanted = Vec::new();
        for id in predicates {
            let Some(predicate) = parts.predicates.get(id as usize) else {
                continue;
            };
            match &predicate.decide {
                Decide::Literal(literal) => wanted.push((*literal, id)),
                Decide::Equal(literal) => {
                    let text = Box::from(parts.literals.text(*literal));
                    index.equal.insert(text, id);
                }
                Decide::Network(network) => index.networks.add(*network, id),
                Decide::Exists(true) => index.presence.push((Presence::There, id)),
                Decide::Exists(false) => index.presence.push((Presence::NotThere, id)),
                Decide::Null => index.presence.push((Presence::Null, id)),
                Decide::Empty => index.presence.push((Presence::Empty, id)),
                Decide::Filled => index.presence.push((Presence::Filled, id)),
                _ => {}
            }
        }
        index.grams = Grams::new(&parts.literals, &wanted, frequencies);
        index.mark = index.common_mark(&parts.literals, &wanted);
        index
    }

    /// Whether the value can be passed over without being folded.
    #[inline]
    pub(crate) fn passes_over(&self, raw: &str) -> bool {
        self.mark
            .is_some_and(|mark| memchr::memchr(mark, raw.as_bytes()).is_none())
    }

    fn common_mark(&self, literals: &Literals, wanted: &[(u32, u32)]) -> Option<u8> {
        if !self.presence.is_empty() || !self.networks.is_empty() {
            return None;
        }
        let texts = || {
            let found = wanted.iter().map(|(literal, _)| literals.text(*literal));
            found.chain(self.equal.keys().map(|text| &**text))
        };
        // Letters have other cases, and other characters than these fold to nothing else.
        let first = texts().next()?;
        let marks = first.iter().copied().filter(u8::is_ascii_punctuation);
        marks
            .into_iter()
            .find(|mark| texts().all(|text| text.contains(mark)))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.grams.is_empty()
            && self.equal.is_empty()
            && self.networks.is_empty()
            && self.presence.is_empty()
    }

    /// Calls `holds` with each indexed predicate that holds; with some more than once.
    #[inline]
    pub(crate) fn decide(
        &self,
        value: Option<Value<'_>>,
        literals: &Literals,
        mut holds: impl FnMut(u32),
    ) {
        for (presence, id) in &self.presence {
            let is_so = match (presence, value) {
                (Presence::There, value) => value.is_some(),
                (Presence::NotThere, value) => value.is_none(),
                (Presence::Null, value) => value.is_none_or(|value| value.raw.is_empty()),
                (Presence::Empty, value) => value.is_some_and(|value| value.raw.is_empty()),
                (Presence::Filled, value) => value.is_some_and(|value| !value.raw.is_empty()),
            };
            if is_so {
                holds(*id);
            }
        }
        let Some(value) = value else { return };
        if !self.equal.is_empty()
            && let Some(id) = self.equal.get(value.folded)
        {
            holds(*id);
        }
        self.networks.find(&value, &mut holds);
        self.grams.scan(value.folded, literals, holds);
    }
}

/// Whether an address has 128 bits, and how many of its bits are the network's.
type PrefixLength = (bool, u8);

/// Networks by length of their prefix: one look-up for each length that occurs.
#[derive(Default)]
pub(crate) struct Networks {
    lengths: Vec<(PrefixLength, FxHashMap<u128, Vec<u32>>)>,
}

impl Networks {
    pub(crate) fn is_empty(&self) -> bool {
        self.lengths.is_empty()
    }

    pub(crate) fn add(&mut self, network: IpNet, id: u32) {
        let (six, address) = bits(network.network());
        let length = (six, network.prefix_len());
        let place = match self.lengths.iter().position(|(known, _)| *known == length) {
            Some(place) => place,
            None => {
                self.lengths.push((length, FxHashMap::default()));
                self.lengths.len() - 1
            }
        };
        if let Some((_, networks)) = self.lengths.get_mut(place) {
            networks.entry(address).or_default().push(id);
        }
    }

    fn find(&self, value: &Value<'_>, holds: &mut impl FnMut(u32)) {
        if self.lengths.is_empty() {
            return;
        }
        if let Ok(address) = value.raw.trim().parse::<IpAddr>() {
            self.find_address(address, holds);
        }
    }

    /// Calls `holds` with the number of every network that the address is in.
    pub(crate) fn find_address(&self, address: IpAddr, holds: &mut impl FnMut(u32)) {
        let (six, address) = bits(address.to_canonical());
        for ((of_six, length), networks) in &self.lengths {
            if *of_six != six {
                continue;
            }
            let width = if six { 128 } else { 32 };
            let host_bits = width - u32::from(*length);
            let network = address.checked_shr(host_bits).unwrap_or(0);
            let network = network.checked_shl(host_bits).unwrap_or(0);
            for id in networks.get(&network).into_iter().flatten() {
                holds(*id);
            }
        }
    }
}

fn bits(address: IpAddr) -> (bool, u128) {
    match address {
        IpAddr::V4(four) => (false, u128::from(u32::from(four))),
        IpAddr::V6(six) => (true, u128::from(six)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_found_by_their_prefix() {
        let mut networks = Networks::default();
        for (id, network) in [
            "0.0.0.0/0",
            "10.0.0.0/8",
            "10.1.0.0/16",
            "::/0",
            "2001:db8::/32",
            "10.1.2.3/32",
        ]
        .iter()
        .enumerate()
        {
            networks.add(network.parse().unwrap(), u32::try_from(id).unwrap());
        }
        let check = |address: &str, expected: &[u32]| {
            let mut found = Vec::new();
            let value = Value {
                raw: address,
                folded: address.as_bytes(),
            };
            networks.find(&value, &mut |id| found.push(id));
            found.sort_unstable();
            assert_eq!(found, expected, "{address}");
        };
        check("10.1.2.3", &[0, 1, 2, 5]);
        check("::ffff:10.9.9.9", &[0, 1]);
        check("192.0.2.1", &[0]);
        check("2001:db8::1", &[3, 4]);
        check("nowhere", &[]);
    }
}
