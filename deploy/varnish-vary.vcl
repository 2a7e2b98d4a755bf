# Varnish in front of Optgate, following `Vary`.
#
#   visitor --> Varnish (cache) --> Optgate 127.0.0.1:8080 --> the site
#
# In Optgate's configuration:   [cache]
#                               front = "vary"
#
# Without that line the same cache is harmless and useless: pages go out `private, no-cache`, which Varnish's
# built-in rules never keep.

vcl 4.1;

backend optgate {
    .host = "127.0.0.1";
    .port = "8080";
}

sub vcl_recv {
    if (req.method != "GET" && req.method != "HEAD") {
        return (pass);
    }
    if (req.http.Authorization) {
        return (pass);
    }
    # Varnish's own rules would pass every request with a cookie, ours too. The pages vary by `Cookie`, so that
    # a page for one cookie is never given to another.
    return (hash);
}
