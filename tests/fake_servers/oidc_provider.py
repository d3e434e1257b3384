"""Runs Canaille, an OpenID Connect provider, with one client and three people. Started in its own environment.

    .venv-oidc/bin/python tests/fake_servers/oidc_provider.py PORT REDIRECT_URI DATABASE_FILE

It is the real thing and no fake: its login pages, its tokens, its PKCE.
"""

import datetime
import sys

from canaille import create_app
from canaille.app import models
from canaille.backends import Backend
from joserfc.jwk import RSAKey
from werkzeug.serving import run_simple

PASSWORD = "correct horse battery"


def main(port: int, redirect_uri: str, database: str) -> None:
    """Serve until killed."""
    app = create_app(
        {
            "SECRET_KEY": "of a provider that lives for a test alone",
            "SERVER_NAME": f"127.0.0.1:{port}",
            "PREFERRED_URL_SCHEME": "http",
            "CANAILLE": {
                "DATABASE": "sql",  # its backend in memory mixes up the codes of several sign-ins
                "ACL": {"DEFAULT": {"PERMISSIONS": ["edit_self", "use_oidc"]}},
            },
            "CANAILLE_SQL": {"DATABASE_URI": f"sqlite:///{database}"},
            "CANAILLE_OIDC": {
                "ACTIVE_JWKS": [RSAKey.generate_key(2048, auto_kid=True).as_dict(private=True)],
                "TRUSTED_DOMAINS": ["127.0.0.1"],  # of clients whose users are not asked for consent
            },
        }
    )
    with app.app_context():
        Backend.instance.install(app)
        for name in ("grace", "ada", "eve"):
            person = models.User(
                formatted_name=name.title(),
                family_name=name.title(),
                user_name=name,
                emails=[f"{name}@example.org"],
                password=PASSWORD,
            )
            Backend.instance.save(person)
        client = models.Client(
            client_id="everloop",
            client_name="Everloop",
            client_secret="a secret of the client",
            client_uri="http://127.0.0.1",
            redirect_uris=[redirect_uri],
            grant_types=["authorization_code"],
            response_types=["code"],
            scope=["openid", "email", "profile"],
            token_endpoint_auth_method="client_secret_basic",
            client_id_issued_at=datetime.datetime.now(datetime.UTC),
        )
        Backend.instance.save(client)
        client.audience = [client]
        Backend.instance.save(client)
    run_simple("127.0.0.1", port, app, threaded=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:])
