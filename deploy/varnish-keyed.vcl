# Varnish in front of Optgate, with the opt-out state in the key.
#
#   visitor --> Varnish (cache) --> Optgate 127.0.0.1:8080 --> the site
#
# In Optgate's configuration:   [cache]
#                               front = "keyed"
#
# The state must be read as Optgate reads it: `Sec-GPC` is exactly 1, or our cookie says out. Whoever carries a
# consent platform's cookie, an account or a session is not served from the cache at all.

vcl 4.1;

backend optgate {
    .host = "127.0.0.1";
    .port = "8080";
}

sub vcl_recv {
    # A visitor may not choose the state.
    unset req.http.X-Optgate-State;
    if (req.method != "GET" && req.method != "HEAD") {
        return (pass);
    }
    if (req.http.Authorization) {
        return (pass);
    }
    # Anything but our own cookie: a consent tool, a log-in, a basket. Such pages are one visitor's.
    if (req.http.Cookie && req.http.Cookie !~ "^optgate=[A-Za-z0-9._-]+$") {
        return (pass);
    }
    if (req.http.Sec-GPC == "1" || req.http.Cookie ~ "^optgate=v1\.out(\.|$)") {
        set req.http.X-Optgate-State = "out";
    } else {
        set req.http.X-Optgate-State = "none";
    }
    return (hash);
}

sub vcl_hash {
    hash_data(req.http.X-Optgate-State);
    # A framed page and a fragment are other bytes than the document of the same address.
    hash_data(req.http.Sec-Fetch-Dest);
    # The built-in rules add address and host.
}

sub vcl_backend_fetch {
    unset bereq.http.X-Optgate-State;
}

sub vcl_backend_response {
    # The key does what Vary asks for; browsers still get it.
    if (beresp.http.Vary && beresp.http.Vary != "*") {
        set beresp.http.X-Optgate-Vary = beresp.http.Vary;
        unset beresp.http.Vary;
    }
}

sub vcl_deliver {
    if (resp.http.X-Optgate-Vary) {
        set resp.http.Vary = resp.http.X-Optgate-Vary;
        unset resp.http.X-Optgate-Vary;
    }
}
