use proptest::prelude::*;

use super::*;

fn proxies(counts: &[(&str, u32)]) -> Vec<(Arc<str>, u32)> {
    counts.iter().map(|(name, count)| (Arc::from(*name), *count)).collect()
}

fn of(upstream: &[(&str, u32)], callers: &[(&str, u32)], own: &str) -> Option<Vec<f64>> {
    let upstream: Vec<_> = upstream.iter().map(|(name, count)| (*name, f64::from(*count))).collect();
    parts(&upstream, &proxies(callers), own)
}

fn close(found: Option<Vec<f64>>, wanted: Option<&[f64]>) {
    let same = match (&found, wanted) {
        (Some(found), Some(wanted)) => {
            found.len() == wanted.len() && found.iter().zip(wanted).all(|(a, b)| (a - b).abs() < 1e-9)
        }
        (None, None) => true,
        _ => false,
    };
    assert!(same, "{found:?} instead of {wanted:?}");
}

/// Envoy's documentation and Istio's tests.
#[test]
fn the_own_locality_gets_what_it_can_take() {
    let even = [("us/a", 2), ("us/b", 2)];
    // As many proxies as endpoints, or fewer.
    close(of(&even, &[("us/a", 1), ("us/b", 1)], "us/a"), Some(&[1.0, 0.0]));
    close(of(&even, &[("us/a", 1), ("us/b", 3)], "us/a"), Some(&[1.0, 0.0]));
    // All proxies are here, and half of the endpoints.
    close(of(&even, &[("us/a", 4)], "us/a"), Some(&[0.5, 0.5]));
    close(of(&even, &[("us/a", 2), ("us/b", 1)], "us/a"), Some(&[0.75, 0.25]));
    // What is left goes where there is room, and to nobody who has none.
    let three = [("us/a", 1), ("us/b", 1), ("us/c", 2)];
    close(of(&three, &[("us/a", 2), ("us/b", 1), ("us/c", 1)], "us/a"), Some(&[0.5, 0.0, 0.5]));
    close(of(&three, &[("us/a", 1)], "us/a"), Some(&[0.25, 0.25, 0.5]));
}

#[test]
fn without_somebody_here_localities_do_not_count() {
    let even = [("us/a", 2), ("us/b", 2)];
    close(of(&even, &[], "us/a"), None);
    close(of(&even, &[("us/b", 1)], "us/a"), None);
    close(of(&even, &[("us/c", 1)], "us/c"), None);
    close(of(&[("us/a", 0), ("us/b", 2)], &[("us/a", 1)], "us/a"), None);
    close(of(&[("us/a", 2)], &[("us/a", 1)], "us/a"), None);
    close(of(&[("us/a", 2), ("us/b", 0)], &[("us/a", 1)], "us/a"), None);
    close(of(&even, &[("us/a/", 1), ("us/b", 1)], "us/a/"), Some(&[1.0, 0.0]));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    /// If each proxy sends as much as the others, each endpoint gets as much as the others.
    #[test]
    fn no_endpoint_gets_more_than_another(counts in proptest::collection::vec((1_u32..20, 0_u32..20), 2..8)) {
        let names: Vec<String> = (0..counts.len()).map(|number| format!("us/{number}")).collect();
        let upstream: Vec<_> = names.iter().zip(&counts).map(|(name, (count, _))| (name.as_str(), *count)).collect();
        let callers: Vec<_> = names.iter().zip(&counts).map(|(name, (_, count))| (name.as_str(), *count)).collect();
        let mut got = vec![0.0; counts.len()];
        for (own, (_, sends)) in names.iter().zip(&counts).filter(|(_, (_, count))| *count > 0) {
            let parts = of(&upstream, &callers, own).unwrap();
            prop_assert!((parts.iter().sum::<f64>() - 1.0).abs() < 1e-9, "{parts:?}");
            parts.iter().zip(&mut got).for_each(|(part, got)| *got += part * f64::from(*sends));
        }
        let sent: f64 = counts.iter().map(|(_, count)| f64::from(*count)).sum();
        let all: f64 = counts.iter().map(|(count, _)| f64::from(*count)).sum();
        for ((count, _), got) in counts.iter().zip(got) {
            prop_assert!((got - sent * f64::from(*count) / all).abs() < 1e-6, "{counts:?}: {got}");
        }
    }
}
