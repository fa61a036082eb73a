"""An OpenID Connect provider on this machine, to sign in with in tests: a page of people, of whom one is clicked.

It speaks the authorization code flow with PKCE: discovery, authorization, token (a signed id_token), keys.
"""

import base64
import hashlib
import html
import json
import secrets
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlencode, urlsplit

from joserfc import jwt
from joserfc.jwk import KeySet, RSAKey

CLIENT, SECRET = "leukodash", "a secret that the provider and the app share"


class Provider:
    """A provider with some people, given as the claims of their id_token: sub, name, email and so on."""

    def __init__(self, people):
        self.people = {person["sub"]: person for person in people}
        self.key = RSAKey.generate_key(2048, {"kid": "test", "use": "sig", "alg": "RS256"})
        self.codes = {}  # each is good for one token
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def secrets(self, app_url):
        """Return the content of the app's ``secrets.toml``."""
        return f"""[auth]
redirect_uri = "{app_url}/oauth2callback"
cookie_secret = "{secrets.token_hex(32)}"
client_id = "{CLIENT}"
client_secret = "{SECRET}"
server_metadata_url = "{self.url}/.well-known/openid-configuration"
"""

    def discovery(self):
        return {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
            "jwks_uri": f"{self.url}/keys",
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "code_challenge_methods_supported": ["S256"],
        }

    def page(self, asked):
        """Return the page on which a person is chosen, and remember what each link stands for."""
        assert asked["client_id"] == CLIENT and asked["response_type"] == "code"
        links = []
        for person in self.people.values():
            code = secrets.token_urlsafe(16)
            self.codes[code] = asked, person
            target = f"{asked['redirect_uri']}?{urlencode({'code': code, 'state': asked['state']})}"
            links.append(f'<p><a href="{html.escape(target)}">{html.escape(person["name"])}</a></p>')
        return f"<!doctype html><title>Who are you?</title>{''.join(links)}"

    def token(self, form, basic):
        """Return a token for a code. Raises an error where code, client, address or PKCE do not fit."""
        client, secret = basic or (form["client_id"], form["client_secret"])
        assert (client, secret) == (CLIENT, SECRET)
        asked, person = self.codes.pop(form["code"])
        assert form["redirect_uri"] == asked["redirect_uri"]
        digest = hashlib.sha256(form["code_verifier"].encode()).digest()
        assert base64.urlsafe_b64encode(digest).decode().rstrip("=") == asked["code_challenge"]
        now = int(time.time())
        claims = {"iss": self.url, "aud": CLIENT, "iat": now, "exp": now + 600, "nonce": asked["nonce"], **person}
        signed = jwt.encode({"alg": "RS256", "kid": "test"}, claims, self.key)
        return {"access_token": secrets.token_hex(8), "token_type": "Bearer", "expires_in": 600, "id_token": signed}

    def _handler(provider):
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                asked = urlsplit(self.path)
                if asked.path == "/authorize":
                    words = {name: values[0] for name, values in parse_qs(asked.query).items()}
                    self.answer(provider.page(words), "text/html")
                elif asked.path == "/keys":
                    self.answer(KeySet([provider.key]).as_dict(private=False))
                elif asked.path == "/.well-known/openid-configuration":
                    self.answer(provider.discovery())
                else:
                    self.send_error(404)

            def do_POST(self):
                text = self.rfile.read(int(self.headers["Content-Length"])).decode()
                kind, _, value = self.headers.get("Authorization", "").partition(" ")
                basic = tuple(map(unquote, base64.b64decode(value).decode().split(":"))) if kind == "Basic" else None
                self.answer(provider.token({name: values[0] for name, values in parse_qs(text).items()}, basic))

            def answer(self, content, kind="application/json"):
                body = (content if isinstance(content, str) else json.dumps(content)).encode()
                self.send_response(200)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        return Handler
