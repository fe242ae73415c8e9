//! What a request's path becomes.

use hyper::http::uri::PathAndQuery;

use crate::gateway::config::{PathPattern, Rewrite};

/// The new path with the query as it was; nothing where the result is no path.
pub(in crate::gateway) fn rewrite(
    rule: &Rewrite,
    matched: &PathPattern,
    path: &str,
    query: Option<&str>,
) -> Option<PathAndQuery> {
    let mut new = match rule {
        Rewrite::Path(path) => path.clone(),
        Rewrite::Regex(regex, replacement) => regex.replace(path, replacement.as_str()).into_owned(),
        Rewrite::Prefix(prefix) => {
            let old = match matched {
                PathPattern::Prefix(prefix) | PathPattern::Exact(prefix) => prefix.as_str(),
                PathPattern::Regex(_) => "",
            };
            let rest = path.strip_prefix(old).unwrap_or(path);
            // One slash where they meet, whichever of them brings it.
            let rest = rest.strip_prefix('/').unwrap_or(rest);
            match (prefix.strip_suffix('/'), rest) {
                (Some(_), _) => format!("{prefix}{rest}"),
                (None, "") => prefix.clone(),
                (None, _) => format!("{prefix}/{rest}"),
            }
        }
    };
    if !new.starts_with('/') {
        new.insert(0, '/');
    }
    if let Some(query) = query {
        new.push('?');
        new.push_str(query);
    }
    PathAndQuery::try_from(new).ok()
}

#[cfg(test)]
mod tests {
    use regex::Regex;

    use super::*;

    fn prefix(from: &str, to: &str, path: &str) -> String {
        rewrite(&Rewrite::Prefix(to.into()), &PathPattern::Prefix(from.into()), path, None).unwrap().to_string()
    }

    #[test]
    fn a_prefix_is_replaced_with_one_slash_where_they_meet() {
        for (from, to, path, new) in [
            ("/a", "/b", "/a", "/b"),
            ("/a", "/b", "/a/x", "/b/x"),
            ("/a", "/", "/a/x", "/x"),
            ("/a", "/", "/a", "/"),
            ("/a/", "/", "/a/x", "/x"),
            ("/a/", "/b", "/a/x", "/b/x"),
            ("/", "/b/", "/x", "/b/x"),
            ("/", "/b", "/", "/b"),
        ] {
            assert_eq!(prefix(from, to, path), new, "{from} {to} {path}");
        }
    }

    #[test]
    fn an_expression_has_its_groups_and_the_query_stays() {
        let rule = Rewrite::Regex(Regex::new(r"^/users/(\d+)").unwrap(), "/u/$1".into());
        let new = rewrite(&rule, &PathPattern::default(), "/users/7/x", Some("a=b")).unwrap();
        assert_eq!(new.as_str(), "/u/7/x?a=b");
        let rule = Rewrite::Path("/fixed".into());
        assert_eq!(rewrite(&rule, &PathPattern::default(), "/x", Some("q")).unwrap().as_str(), "/fixed?q");
    }
}
