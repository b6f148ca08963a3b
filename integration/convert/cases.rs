//! Configurations of nginx, one for each group of its semantics.

/// Directives of a server, and lines of the result.
pub(super) const ROUTES: &[(&str, &str)] = &[
    // Paths.
    ("location / { proxy_pass http://127.0.0.1:8000; }", r#""/" = { proxy = "app" }"#),
    ("location = /a { return 204; }", r#""= /a" = { answer = 204 }"#),
    ("location ^~ /a/ { return 204; }", r#""^~ /a" = { answer = 204 }"#),
    (r"location ~* \.(css|js)$ { root /srv; }", "'~* \\.(css|js)$' = { files = \"/srv{path}\" }"),
    (
        "location /favicon.ico { alias /srv/favicon.ico; }",
        r#""= /favicon.ico" = { files = "/srv/favicon.ico" }"#,
    ),
    ("location /a { alias /srv/a; expires 24h; }", r#""/a" = { files = "/srv/a", expires = "24h" }"#),
    ("location /a { root /srv; autoindex on; }", r#""/a" = { files = "/srv/a", listing = true }"#),
    // Servers and what they are asked for.
    (
        "location /a { proxy_pass http://unix:/run/app.sock:/b; }",
        r#""/a" = { proxy = "app", path = "/b{rest}" }"#,
    ),
    (
        "location /beacon { rewrite ^/beacon/?(.*)$ /$1 break; proxy_pass http://127.0.0.1:1; }",
        r#""/beacon" = { proxy = "beacon", path = "{rest}" }"#,
    ),
    (
        "location /a/ { proxy_pass http://127.0.0.1:1/; }",
        "\"/a\" = { proxy = \"app\", path = \"{rest}\" }\n\"= /a\" = { redirect = \"/a/?{query}\", status = 301 }",
    ),
    (
        "location ~ ^/k/(?<rest>.*)$ { proxy_pass http://127.0.0.1:1/k/$rest; }",
        r#""~ ^/k/(?<rest2>.*)$" = { proxy = "app", path = "/k/{rest2}" }"#,
    ),
    (
        "location / { proxy_pass http://app.example:8080; proxy_read_timeout 600; }",
        "\"/\" = { proxy = \"app\", request_headers = { Host = \"app.example:8080\" }, read_timeout = \"10m\" }",
    ),
    // Fallbacks.
    (
        "location / { try_files false @app; } location @app { proxy_pass http://127.0.0.1:1; }",
        r#""/" = { proxy = "app" }"#,
    ),
    (
        "location ~ ^/p/(?<a>[^/]+)/(?<f>.*)$ { alias /srv/p/; try_files $a/x/$f $a/$f =404; }",
        r#""~ ^/p/(?<a>[^/]+)/(?<f>.*)$" = { files = "/srv/p/{a}/x/{f}", try = ["/srv/p/{a}/{f}"] }"#,
    ),
    (
        "root /srv/spa; location / { try_files $uri $uri/ /index.html; }",
        r#""/" = { files = "/srv/spa", index = "index.html", errors = { 404 = { page = "/srv/spa/index.html", status = 200 } } }"#,
    ),
    // Conditions.
    (
        "location / { if ($request_method != POST) { return 405; } proxy_pass http://127.0.0.1:1; }",
        "{ when = { methods = [\"POST\"] }, proxy = \"app\" },\n{ answer = 405 },",
    ),
    (
        "if ($request_uri = \"/list?user=x\") { return 302 https://a.example/; } location / { return 204; }",
        "{ when = { query = { user = \"x\" } }, redirect = \"https://a.example/\" },\n{ answer = 204 },",
    ),
    // Access.
    (
        "location / { allow 10.0.0.0/8; deny all; proxy_pass http://127.0.0.1:1; }",
        r#""/" = { proxy = "app", allow = ["10.0.0.0/8"] }"#,
    ),
    ("location / { deny all; }", r#""/" = { answer = 403 }"#),
    (
        "location / { auth_basic Staff; auth_basic_user_file /etc/passwords; proxy_pass http://127.0.0.1:1; \
         proxy_set_header REMOTE_USER $remote_user; }",
        "\"/\" = { proxy = \"app\", auth = \"app\" }\nhtpasswd = \"/etc/passwords\"\nremote_user = true",
    ),
    // Redirects.
    (
        "return 301 https://a.example$request_uri;",
        r#""/" = { redirect = "https://a.example{uri}", status = 301 }"#,
    ),
    (
        "rewrite ^/old/(.*)$ https://a.example/new/$1 permanent; location / { return 204; }",
        r#""~ ^/old/(?<g1>.*)$" = { redirect = "https://a.example/new/{g1}", status = 301 }"#,
    ),
    (
        "location /a { limit_except GET { deny all; } proxy_pass http://127.0.0.1:1; }",
        r#""/a" = { proxy = "app", methods = ["GET"] }"#,
    ),
];

pub(super) const PRECEDENCE: &str = r"
http {
    upstream first { server 127.0.0.1:8001; }
    upstream second { server 127.0.0.1:8002; }
    upstream third { server 127.0.0.1:8003; }
    server {
        listen 8080;
        location / { proxy_pass http://first; }
        location = /exact { proxy_pass http://second; }
        location /prefix { proxy_pass http://second; }
        location /prefix/deep { proxy_pass http://third; }
        location ^~ /caret { proxy_pass http://second; }
        location ~ ^/caret/never { proxy_pass http://third; }
        location ~ \.js$ { proxy_pass http://third; }
        location ~* ^/prefix/.*\.PNG$ { proxy_pass http://first; }
        location /outer { proxy_pass http://second; location ~ \.css$ { proxy_pass http://third; } }
    }
}";

pub(super) const PATHS: &str = r"
http {
    upstream app { server unix:/run/app.sock; }
    server {
        listen 8080;
        client_max_body_size 20m;
        location / { proxy_pass http://app; proxy_set_header Host $http_host; }
        location /files { proxy_pass http://127.0.0.1:1080/store; proxy_set_header Host $host; proxy_redirect off; }
        location /slash/ { proxy_pass http://127.0.0.1:3000/; proxy_set_header Host $http_host; }
        location /same/ { proxy_pass http://127.0.0.1:3001/same/; proxy_set_header Host $host; }
        location /beacon { rewrite ^/beacon/?(.*)$ /$1 break; proxy_pass http://127.0.0.1:5050; proxy_set_header Host beacon.example; }
        location ~* /queue/(.*) { rewrite ^/queue/(.*)$ /$1 break; proxy_pass http://127.0.0.1:15672; proxy_set_header Host $host; }
        location ~ ^/lab/(?<name>[^/]+)/api(?<rest>.*?)$ { proxy_pass http://127.0.0.1:8800/l/$name/a$rest; proxy_set_header Host $host; }
        location /jobs { rewrite ^ /api/jobs/$arg_job/files last; }
        location ~ ^/api/jobs/[^/]+/files$ { proxy_pass http://127.0.0.1:8080; proxy_set_header Host $host; }
        rewrite ^/twice/twice(.*)$ /twice$1 last;
    }
}";

pub(super) const FILES: &str = r"
http {
    include mime.types;
    default_type application/octet-stream;
    gzip on;
    gzip_types text/plain text/css application/javascript application/json;
    server {
        listen 8080;
        root /srv/www;
        location / { index index.html; expires 1h; }
        location /static { alias /srv/galaxy/static; expires 24h; }
        location /static/welcome.html { alias /srv/custom/welcome-$host.html; }
        location /robots.txt { root /srv/root; try_files /robots.txt /static/robots.txt; }
        location ~ ^/plugins/(?<kind>[^/]+?)/((?<d>[^/_]*)_?)?(?<name>[^/]*?)/static/(?<file>.*?)$ {
            alias /srv/galaxy/plugins/$kind/;
            try_files $d/${d}_${name}/static/$file $d/static/$file =404;
        }
        location /spa/ { alias /srv/spa/; try_files $uri =404; }
        location ~ \.(gif|webp)$ { root /srv/pictures; }
        location /internal/ { internal; alias /srv/data/; add_header X-Content-Type-Options nosniff; }
        location /app { proxy_pass http://127.0.0.1:8000; proxy_set_header Host $host; }
    }
}";

pub(super) const CONDITIONS: &str = r#"
http {
    map $http_origin $cors {
        default "";
        "~^https://(www\.)?friend\.example$" $http_origin;
    }
    server {
        listen 8080;
        if ($http_user_agent ~* (badbot|worsebot)) { return 403; }
        location / { proxy_pass http://127.0.0.1:8000; proxy_set_header Host $host; }
        location /post {
            if ($request_method != POST) { return 405; }
            proxy_pass http://127.0.0.1:8001; proxy_set_header Host $host;
        }
        location /key {
            if ($http_x_api_key = "") { return 401; }
            if ($arg_format = "json") { proxy_pass http://127.0.0.1:8002; }
            proxy_pass http://127.0.0.1:8003; proxy_set_header Host $host;
        }
        location /shared {
            if ($cors != "") {
                add_header Access-Control-Allow-Origin $cors;
                add_header Access-Control-Allow-Methods "GET, OPTIONS";
            }
            proxy_pass http://127.0.0.1:8004; proxy_set_header Host $host;
        }
        location /session {
            if ($http_cookie ~* "session=") { return 200 "known"; }
            return 200 "unknown";
        }
    }
}"#;

pub(super) const HEADERS: &str = r#"
http {
    include mime.types;
    default_type application/octet-stream;
    server {
        listen 8080;
        add_header X-Frame-Options SAMEORIGIN;
        add_header Strict-Transport-Security "max-age=15552000; includeSubdomains";
        error_page 502 503 504 /errors/502.html;
        error_page 404 =200 @missing;
        location / { proxy_pass http://127.0.0.1:8000; proxy_set_header Host $host; }
        location /own {
            add_header X-Own yes;
            proxy_hide_header X-Frame-Options;
            proxy_set_header X-Added "a value";
            proxy_set_header Accept-Encoding "";
            proxy_set_header X-From $remote_addr;
            proxy_set_header Host $host;
            proxy_pass http://127.0.0.1:8001;
        }
        location /errors { root /srv; }
        location /files { alias /srv/files; }
        location @missing { root /srv/pages; try_files /404.html =404; }
    }
}"#;

pub(super) const AUTH: &str = r"
http {
    server {
        listen 8080;
        location / { proxy_pass http://127.0.0.1:8000; proxy_set_header Host $host; }
        location /staff {
            auth_basic Staff;
            auth_basic_user_file /etc/nginx/passwords;
            proxy_set_header REMOTE_USER $remote_user;
            proxy_set_header Host $host;
            proxy_pass http://127.0.0.1:8001;
        }
        location /staff/open { auth_basic off; proxy_pass http://127.0.0.1:8001; proxy_set_header Host $host; }
        location /local { allow 127.0.0.0/8; deny all; proxy_pass http://127.0.0.1:8002; proxy_set_header Host $host; }
        location /remote { allow 192.0.2.0/24; deny all; proxy_pass http://127.0.0.1:8002; proxy_set_header Host $host; }
        location /either {
            satisfy any;
            allow 127.0.0.1;
            deny all;
            auth_basic Staff;
            auth_basic_user_file /etc/nginx/passwords;
            proxy_set_header Host $host;
            proxy_pass http://127.0.0.1:8003;
        }
        location /asked { auth_request /check; proxy_pass http://127.0.0.1:8004; proxy_set_header Host $host; }
        location = /check {
            internal;
            proxy_pass http://127.0.0.1:8005/auth;
            proxy_pass_request_body off;
            proxy_set_header Content-Length '';
            proxy_set_header Host $host;
        }
    }
}";

pub(super) const HOSTS: &str = r"
http {
    ssl_certificate /etc/ssl/site.pem;
    ssl_certificate_key /etc/ssl/site.key;
    server {
        listen 80 default_server;
        server_name galaxy.example.org;
        location / { return 302 https://$host$request_uri; }
    }
    server {
        listen 443 ssl default_server;
        server_name galaxy.example.org;
        location / { proxy_pass http://127.0.0.1:8000; proxy_set_header Host $host; }
    }
    server {
        listen 443 ssl;
        server_name *.ep.example.org;
        location / { proxy_pass http://127.0.0.1:8001; proxy_set_header Host $host; }
    }
    server {
        listen 443 ssl;
        server_name ~^(?<key>[0-9a-z-]+)\.tools\.example\.org$;
        location / { proxy_pass http://127.0.0.1:8002; proxy_set_header X-Key $key; proxy_set_header Host $host; }
    }
    server {
        listen 443 ssl;
        server_name old.example.org older.example.org;
        return 301 https://galaxy.example.org$request_uri;
    }
}";

/// As certbot writes it, with a switch for maintenance and denied networks.
pub(super) const CERTBOT: &str = r"
http {
    ssl_certificate /etc/ssl/site.pem;
    ssl_certificate_key /etc/ssl/site.key;
    geo $blocked { default 0; 192.0.2.0/24 1; }
    server {
        listen 80;
        server_name galaxy.example.org www.example.org;
        if ($host = www.example.org) { return 301 https://galaxy.example.org$request_uri; }
        if ($host = galaxy.example.org) { return 301 https://$host$request_uri; }
        return 404;
    }
    server {
        listen 443 ssl;
        server_name galaxy.example.org;
        error_page 503 /maintenance.html;
        if ($blocked) { return 403; }
        if (-f /srv/maintenance.on) { return 503; }
        location / { proxy_pass http://127.0.0.1:8000; proxy_set_header Host $host; }
        location = /maintenance.html { internal; root /srv/pages; }
    }
}";

pub(super) const REDIRECTS: &str = r"
http {
    server {
        listen 8080;
        rewrite ^/m/?$ https://mobile.example.org/;
        rewrite ^/paper/(?<id>[0-9]+)$ https://papers.example.org/$id permanent;
        location / { proxy_pass http://127.0.0.1:8000; proxy_set_header Host $host; }
        location /moved { return 301 https://other.example.org$request_uri; }
        location = /home { return 302 /; }
        location /gone { return 410; }
        location /text { default_type text/html; return 200 '<h1>Hello</h1>'; }
    }
}";

pub(super) const APACHE: &str = r#"
LoadModule rewrite_module modules/mod_rewrite.so
<VirtualHost *:80>
    ServerName galaxy.example.org
    RewriteEngine on
    RewriteCond %{HTTPS} off
    RewriteRule ^(.*) https://%{HTTP_HOST}%{REQUEST_URI} [R=301,L]
</VirtualHost>
<VirtualHost *:443>
    ServerName galaxy.example.org
    SSLEngine on
    SSLCertificateFile /etc/ssl/galaxy.pem
    SSLCertificateKeyFile /etc/ssl/galaxy.key
    <Proxy balancer://galaxy>
        BalancerMember http://localhost:8080
        BalancerMember http://localhost:8081 loadfactor=2
    </Proxy>
    RewriteEngine on
    RewriteRule ^/static/style/(.*) /srv/galaxy/static/style/$1 [L]
    RewriteRule ^/favicon.ico /srv/galaxy/static/favicon.ico [L]
    RewriteRule ^/reports/(.*) http://localhost:9001/$1 [P]
    RewriteRule ^(.*) balancer://galaxy$1 [P]
    XSendFile on
    XSendFilePath /srv/galaxy/files
    AllowEncodedSlashes NoDecode
    AddOutputFilterByType DEFLATE text/html text/css
    <Location />
        AuthType Basic
        AuthName Galaxy
        AuthUserFile /etc/galaxy.passwords
        Require valid-user
        RequestHeader set REMOTE_USER %{AUTHENTICATE_UID}e
    </Location>
    <Location /static/style>
        ExpiresActive On
        ExpiresDefault "access plus 24 hours"
    </Location>
</VirtualHost>
"#;

pub(super) const FROM_APACHE: &str = r#"tls = { cert = "/etc/ssl/galaxy.pem", key = "/etc/ssl/galaxy.key" }
redirect_https = true
compress = true
servers = ["localhost:8080", { address = "localhost:8081", weight = 2 }]
servers = ["localhost:9001"]
htpasswd = "/etc/galaxy.passwords"
remote_user = true
"/_x_accel_redirect" = { files = "/", internal = true, within = ["/srv/galaxy/files"] }"#;
