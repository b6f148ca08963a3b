vcl 4.1;

backend app {
    .path = "@UPSTREAM@";
}

# A proxy without its cache.
sub vcl_recv {
    return (pass);
}
