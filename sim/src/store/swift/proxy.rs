//! How a proxy makes one answer of what the nodes said. Swift 2.30, `proxy/controllers/base.py`: `best_response`,
//! `_compute_quorum_response`; `common/utils.py`: `quorum_size`.

/// Answers that decide, of `answers`. Half of an even number is enough: of two, one.
pub const fn quorum(answers: usize) -> usize {
    answers.div_ceil(2)
}

/// The status for the client: the first class of statuses (2xx, 3xx, 4xx) with a quorum, and in it the highest. So a
/// lone 409 beside a 404 is a 409, and a lone 200 beside a lone 404 a 200. 503 when no class has a quorum.
pub fn best_of(statuses: &[u16]) -> u16 {
    decided(statuses, |_| false).unwrap_or(503)
}

/// The same for a DELETE of an object: without a quorum a 404 counts as a 204, though it is never the one that is shown.
pub fn best_of_delete(statuses: &[u16]) -> u16 {
    if let Some(status) = decided(statuses, |_| false) {
        return status;
    }
    let counted: Vec<u16> = statuses
        .iter()
        .map(|s| if *s == 404 { 204 } else { *s })
        .collect();
    decided(&counted, |n| statuses[n] == 404).unwrap_or(503)
}

fn decided(statuses: &[u16], avoid: impl Fn(usize) -> bool) -> Option<u16> {
    let needed = quorum(statuses.len());
    [200_u16, 300, 400].into_iter().find_map(|class| {
        let of_class = || {
            let all = statuses.iter().copied().enumerate();
            all.filter(move |(_, s)| (class..class + 100).contains(s))
        };
        if of_class().count() < needed {
            return None;
        }
        of_class().filter(|(n, _)| !avoid(*n)).map(|(_, s)| s).max()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_decides_and_its_highest_status_is_shown() {
        assert_eq!(best_of(&[201, 201, 503]), 201);
        assert_eq!(best_of(&[201, 202, 201]), 202);
        assert_eq!(best_of(&[404, 409, 204]), 409);
        assert_eq!(best_of(&[422, 422, 503]), 422);
        assert_eq!(best_of(&[201, 404, 503]), 503);
        assert_eq!(best_of(&[]), 503);
        assert_eq!(best_of(&[404, 200]), 200);
        assert_eq!(best_of(&[404, 503]), 404);
        assert_eq!(best_of(&[404, 503, 503, 200]), 503);
    }

    #[test]
    fn without_a_quorum_a_delete_counts_404_as_done() {
        assert_eq!(best_of_delete(&[204, 404, 503]), 204);
        assert_eq!(best_of_delete(&[404, 404, 204]), 404);
        assert_eq!(best_of_delete(&[404, 503, 503]), 503);
        assert_eq!(best_of_delete(&[204, 409, 503]), 503);
    }
}
