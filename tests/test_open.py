"""What `kvdict.open` and `kvdict.Account` understand, and what they say to what they do not."""

from __future__ import annotations

import base64
import os
import pathlib
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import responses

import kvdict
from kvdict.emulator import Emulator, Server, Store, serve
from tests.conftest import account_of

ACCOUNT = "0123456789abcdef" * 2
NAMESPACE = "fedcba9876543210" * 2
API = f"https://api.cloudflare.com/client/v4/accounts/{ACCOUNT}/storage/kv/namespaces"


@pytest.fixture
def cloudflare(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the environment as wrangler's users have it."""
    monkeypatch.setenv("CLOUDFLARE_ACCOUNT_ID", ACCOUNT)
    monkeypatch.setenv("CLOUDFLARE_API_TOKEN", "a-token")


@pytest.fixture
def listed() -> Any:
    """Answer the listing of namespaces with one, named links."""
    with responses.RequestsMock(assert_all_requests_are_fired=False) as mock:
        mock.get(
            API,
            json={
                "success": True,
                "result": [{"id": NAMESPACE, "title": "links"}],
                "result_info": {"page": 1, "per_page": 100, "count": 1, "total_count": 1},
            },
        )
        yield mock


class TestLocalHomes:
    def test_a_relative_file_is_fixed_when_it_is_opened(
        self, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        with kvdict.open("sqlite:///app.db") as kv:
            (tmp_path / "elsewhere").mkdir()
            monkeypatch.chdir(tmp_path / "elsewhere")
            kv["k"] = 1
        with kvdict.open(tmp_path / "app.db") as again:
            assert again["k"] == 1
            assert again.title == "default"
        assert os.listdir(tmp_path / "elsewhere") == []

    def test_a_path_may_hold_what_a_url_may_not(self, tmp_path: Any) -> None:
        path = tmp_path / "a?b#c%20d é.db"
        with kvdict.open(path) as kv:
            kv["k"] = 1
            copy = pickle.loads(pickle.dumps(kv))
            assert copy["k"] == 1
            copy.close()
        assert path.exists()

    def test_namespaces_of_one_file_are_kept_apart(self, tmp_path: Any) -> None:
        url = f"sqlite:///{tmp_path}/app.db"
        with (
            kvdict.open(url) as one,
            kvdict.open(f"{url}?namespace=other%20one") as two,
            kvdict.open(url) as same,
        ):
            one["k"], two["k"] = 1, 2
            assert (same["k"], one["k"], two["k"]) == (1, 1, 2)
            assert two.title == "other one"
            assert one.id != two.id
        with kvdict.Account(url) as account:
            assert sorted(account) == ["default", "other one"]

    def test_plain_memory_is_private_and_named_memory_is_shared_while_open(self) -> None:
        with kvdict.open("memory://") as one, kvdict.open("memory://") as two:
            one["k"] = 1
            assert not two
        with kvdict.open("memory://shared") as one, kvdict.open("memory://shared") as two:
            one["k"] = 1
            assert two["k"] == 1
            one.close()
            assert two["k"] == 1
        with kvdict.open("memory://shared") as again:
            assert not again

    def test_a_dropped_handle_lets_go_of_a_named_memory(self) -> None:
        kv = kvdict.open("memory://dropped")
        kv["k"] = 1
        del kv
        with kvdict.open("memory://dropped") as again:
            assert not again

    def test_a_missing_namespace_is_made_unless_told_otherwise(self, tmp_path: Any) -> None:
        url = f"sqlite:///{tmp_path}/app.db"
        with pytest.raises(kvdict.NotFoundError, match="default"):
            kvdict.open(url, create=False)
        with pytest.raises(kvdict.ConfigError, match="nothing to read"):
            kvdict.open(url, readonly=True)
        assert os.listdir(tmp_path) == [], "to look is not to make"
        kvdict.open(url).close()
        kvdict.open(url, create=False).close()
        with pytest.raises(kvdict.NotFoundError, match="other"):
            kvdict.open(f"{url}?namespace=other", readonly=True)

    @pytest.mark.parametrize("content", [b"not a database", b"", b"x" * 5000])
    def test_a_file_that_is_no_database_is_named_and_left_alone(
        self, tmp_path: Any, content: bytes
    ) -> None:
        path = tmp_path / "notes.txt"
        path.write_bytes(content)
        if not content:
            kvdict.open(path).close()
            return
        with pytest.raises(kvdict.ConfigError, match=r"notes\.txt"):
            kvdict.open(path)
        assert path.read_bytes() == content
        assert os.listdir(tmp_path) == ["notes.txt"]

    def test_a_missing_folder_is_named(self, tmp_path: Any) -> None:
        with pytest.raises(kvdict.ConfigError, match="nowhere"):
            kvdict.open(f"sqlite:///{tmp_path}/nowhere/app.db")


class TestCloudflare:
    @pytest.mark.usefixtures("cloudflare")
    @pytest.mark.parametrize(
        "where", ["links", "kv:///links", f"kv://{ACCOUNT}/links", f"kv://{ACCOUNT.upper()}/links"]
    )
    def test_a_title_is_looked_up_once(self, listed: Any, where: str) -> None:
        kv = kvdict.open(where)
        assert (kv.id, kv.title) == (NAMESPACE, "links")
        assert repr(kv) == f"<KVNamespace 'kv://{ACCOUNT}/links' codec='json'>"
        assert [call.request.headers["Authorization"] for call in listed.calls] == [
            "Bearer a-token"
        ]

    @pytest.mark.usefixtures("cloudflare")
    def test_an_id_is_not_looked_up(self, listed: Any) -> None:
        kv = kvdict.open(NAMESPACE)
        assert kv.id == NAMESPACE
        assert len(listed.calls) == 0
        listed.get(
            f"{API}/{NAMESPACE}",
            json={"success": True, "result": {"id": NAMESPACE, "title": "links"}},
        )
        assert [kv.title, kv.title] == ["links", "links"]
        assert len(listed.calls) == 1

    @pytest.mark.usefixtures("cloudflare")
    def test_an_unknown_title_is_an_error_with_the_near_ones(self, listed: Any) -> None:
        with pytest.raises(kvdict.NotFoundError, match="did you mean 'links'") as caught:
            kvdict.open("link")
        assert caught.value.status == 404
        assert isinstance(caught.value, LookupError)
        assert not isinstance(caught.value, KeyError)

    def test_account_token_and_base_url_may_be_arguments(self) -> None:
        with responses.RequestsMock() as mock:
            mock.get(f"http://localhost:1/v4/accounts/{ACCOUNT}/storage/kv/namespaces/{NAMESPACE}"
                     "/values/k", body=b'"v"')  # fmt: skip
            kv = kvdict.open(
                NAMESPACE, account_id=ACCOUNT, token=lambda: "t", base_url="http://localhost:1/v4/"
            )
            assert kv["k"] == "v"
            assert mock.calls[0].request.headers["Authorization"] == "Bearer t"

    def test_the_token_may_be_in_a_variable_of_another_name(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("OTHER_TOKEN", "other")
        with responses.RequestsMock() as mock:
            mock.get(f"{API}/{NAMESPACE}/values/k", body=b"1")
            kv = kvdict.open(f"kv://{ACCOUNT}/{NAMESPACE}?token_env=OTHER_TOKEN")
            assert kv["k"] == 1
            assert mock.calls[0].request.headers["Authorization"] == "Bearer other"
            assert "OTHER_TOKEN" in repr(kv)
            assert "Bearer" not in repr(kv)

    @pytest.mark.usefixtures("cloudflare")
    def test_kvdict_url_is_what_open_without_arguments_opens(
        self, monkeypatch: pytest.MonkeyPatch, listed: Any
    ) -> None:
        monkeypatch.setenv("KVDICT_URL", "kv:///links")
        assert kvdict.open().id == NAMESPACE
        monkeypatch.setenv("KVDICT_URL", "memory://")
        with kvdict.open() as kv:
            assert not kv

    def test_a_netrc_entry_does_not_replace_the_token(
        self, tmp_path: Any, monkeypatch: pytest.MonkeyPatch, server: Server
    ) -> None:
        netrc = tmp_path / ".netrc"
        netrc.write_text("machine 127.0.0.1 login somebody password else\n")
        netrc.chmod(0o600)
        monkeypatch.setenv("NETRC", str(netrc))
        store = Store(None)
        with (
            serve(Emulator(store, token="right")) as guarded,
            kvdict.open(f"{account_of(guarded)}/t", token="right", create=True) as kv,
        ):
            kv["k"] = 1
        store.close()


class TestWhatIsNotUnderstood:
    @pytest.mark.parametrize(
        ("where", "words"),
        [
            (None, "KVDICT_URL.*sqlite:///app.db"),
            ("", "KVDICT_URL"),
            ("redis://localhost", "unknown scheme.*sqlite:///app.db"),
            ("sqlite://app.db", "three or four slashes"),
            ("sqlite:///", "three or four slashes"),
            ("sqlite:///a.db?mode=ro", "unknown option 'mode'.*namespace"),
            ("sqlite:///a.db?namespace=", "namespace= is empty"),
            ("sqlite:///a%00b.db", "no name of a file"),
            (Path("a\0b.db"), "no name of a file"),
            (Path("a\ud800b.db"), "no name of a file"),
            (f"kv://{ACCOUNT}/\ud800", "half a character"),
            ("memory://x?token_env=A", "unknown option 'token_env'"),
            ("memory://x#y", "%23"),
            ("kv:///links?namespace=x", "unknown option 'namespace'.*token_env"),
            (f"kv://{ACCOUNT}", "add /TITLE"),
            ("kv:///", "kv:// names an account and no namespace in it; add /TITLE"),
            ("kv://me:secret@x/links", "never holds a token"),
            ("kv://secret@x/links", "never holds a token"),
            ("kv:///links?token=secret", "never holds a token.*CLOUDFLARE_API_TOKEN"),
            ("kv:///links?token_env=A&api_token=secret", "never holds a token"),
            ("sqlite:///a.db?password=secret", "never holds a token"),
            ("redis://localhost?pw=secret", "unknown scheme in 'redis://localhost.pw=[*]{3}'"),
            ("kv:links?token=secret", "two slashes are missing"),
            ("kv:///links#secret", "%23"),
            ("kv://short/links", "32 hex digits"),
            (f"kv://{ACCOUNT}0/links", "32 hex digits"),
            (f"kv+http:///{ACCOUNT}/links", "expected a URL"),
            ("kv+http://h:1/acc/links", "32 hex digits"),
            (5, "expected a URL, a title or a path"),
            (b"bytes", "expected a URL, a title or a path"),
            ("x" * 513, "512"),
        ],
    )
    @pytest.mark.usefixtures("cloudflare")
    def test_each_is_an_error_that_says_what_is(self, where: Any, words: str) -> None:
        with pytest.raises(kvdict.ConfigError, match=f"(?s){words}") as caught:
            kvdict.open(where)
        assert "secret" not in str(caught.value)

    def test_without_an_account_or_token_it_says_which_variable(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with pytest.raises(kvdict.ConfigError, match="CLOUDFLARE_ACCOUNT_ID"):
            kvdict.open("links")
        monkeypatch.setenv("CLOUDFLARE_ACCOUNT_ID", ACCOUNT)
        with pytest.raises(kvdict.ConfigError, match="CLOUDFLARE_API_TOKEN.*dashboard"):
            kvdict.open("links")
        with pytest.raises(kvdict.ConfigError, match="MINE"):
            kvdict.open("kv:///links?token_env=MINE")

    @pytest.mark.parametrize(
        ("word", "file"), [("app", "app.db"), ("app.db", "app.db"), ("d/a.sqlite", "d/a.sqlite")]
    )
    def test_a_word_that_may_have_been_a_file_is_answered_with_its_url(
        self, word: str, file: str
    ) -> None:
        with pytest.raises(kvdict.ConfigError, match=f"sqlite:///{file}"):
            kvdict.open(word)

    @pytest.mark.parametrize("token", ["new\nline", "trailing ", "tab\t", "é", "\x7f", 5])
    @pytest.mark.usefixtures("cloudflare")
    def test_a_token_that_no_header_carries_is_refused_without_showing_it(self, token: Any) -> None:
        with pytest.raises(kvdict.ConfigError, match="token") as caught:
            kvdict.open(NAMESPACE, token=token)
        assert str(token).strip() not in str(caught.value).split("token", 1)[1][:20]

    @pytest.mark.usefixtures("cloudflare")
    @pytest.mark.parametrize(
        ("options", "error"),
        [
            ({"codec": "yaml"}, kvdict.ConfigError),
            ({"codec": object()}, kvdict.ConfigError),
            ({"prefix": "x" * 513}, kvdict.LimitError),
            ({"prefix": 5}, TypeError),
            ({"expiration_ttl": 5}, kvdict.LimitError),
            ({"max_wait": -1}, kvdict.ConfigError),
            ({"max_wait": float("nan")}, kvdict.ConfigError),
            ({"base_url": "ftp://x"}, kvdict.ConfigError),
            ({"base_url": " https://x/v4"}, kvdict.ConfigError),
            ({"base_url": "https://x/v4\n"}, kvdict.ConfigError),
            ({"codec": "json", "account_id": ACCOUNT + "\n"}, kvdict.ConfigError),
            ({"base_url": "https://me:secret@x"}, kvdict.ConfigError),
            ({"base_url": "https://x/v4?token=secret"}, kvdict.ConfigError),
            ({"account_id": "short"}, kvdict.ConfigError),
            ({"no_such_option": 1}, TypeError),
        ],
    )
    def test_a_wrong_option_is_refused_before_any_request(
        self, options: dict[str, Any], error: type[Exception]
    ) -> None:
        with pytest.raises(error) as caught:
            kvdict.open(NAMESPACE, **options)
        assert "secret" not in str(caught.value)


class TestOffline:
    def test_cloudflare_homes_open_in_memory_without_account_or_token(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("KVDICT_OFFLINE", "memory://")
        with kvdict.open("links") as kv, kvdict.open("kv:///links") as same:
            kv["k"] = 1
            assert same["k"] == 1
            with kvdict.open(f"kv://{ACCOUNT}/{NAMESPACE}") as other:
                assert not other
            with kvdict.Account() as account:
                assert "links" in account

    def test_a_file_may_stand_in_too_and_nothing_else(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
    ) -> None:
        monkeypatch.setenv("KVDICT_OFFLINE", f"sqlite:///{tmp_path}/offline.db")
        kvdict.open("links").close()
        assert (tmp_path / "offline.db").exists()
        monkeypatch.setenv("KVDICT_OFFLINE", "yes")
        with pytest.raises(kvdict.ConfigError, match="KVDICT_OFFLINE"):
            kvdict.open("links")


class TestAccount:
    @pytest.fixture(params=["sqlite", "memory", "served"])
    def account(self, request: Any, tmp_path: Any, server: Server) -> Any:
        where = {
            "sqlite": f"sqlite:///{tmp_path}/account.db",
            "memory": "memory://",
            "served": account_of(server, os.urandom(16).hex()),
        }[request.param]
        with kvdict.Account(where) as account:
            yield account

    def test_it_tells_the_ids_too(self, account: kvdict.Account) -> None:
        made = account.create("a")
        assert [(one.id, one.title) for one in account.namespaces()] == [(made.id, "a")]
        made.close()

    def test_it_is_a_mapping_from_title_to_namespace(self, account: kvdict.Account) -> None:
        assert len(account) == 0
        made = account.create("a")
        made["k"] = 1
        made.flush()
        account.create("b", jurisdiction="eu")
        assert sorted(account) == ["a", "b"]
        assert "a" in account
        assert "c" not in account
        assert account["a"]["k"] == 1
        assert account.get("c") is None
        assert dict(account).keys() == {"a", "b"}

    def test_namespaces_are_renamed_and_deleted(self, account: kvdict.Account) -> None:
        kv = account.create("old")
        kv["k"] = 1
        as_bytes = kv.using("bytes")
        as_bytes["b"] = b"\xff"
        kv.flush()
        for key in "kb":
            kv.refresh(key)
        assert as_bytes.entry("b").value == b"\xff"
        account.rename("old", "new")
        assert list(account) == ["new"]
        assert account.open("new", codec="text")["k"] == "1"
        account.delete("new")
        assert list(account) == []
        with pytest.raises(kvdict.NotFoundError):
            kv["k"]
        with pytest.raises(kvdict.NotFoundError):
            kv.get("k")
        with pytest.raises(kvdict.NotFoundError):
            as_bytes.entry("b")
        with pytest.raises(kvdict.NotFoundError):
            kv.setdefault("k", 1)

    def test_an_unknown_title_is_named_with_the_near_ones(self, account: kvdict.Account) -> None:
        account.create("products")
        for call in (account.open, account.delete, lambda title: account.rename(title, "x")):
            for title in ("product", "PRODUCTS"):
                with pytest.raises(kvdict.NotFoundError, match="did you mean 'products'"):
                    call(title)
        with pytest.raises(KeyError) as caught:
            account["product"]
        assert caught.value.args == ("product",)
        assert "did you mean 'products'" in str(caught.value.__cause__)

    def test_titles_are_checked_and_unique(self, account: kvdict.Account) -> None:
        account.create("taken")
        with pytest.raises(kvdict.APIError) as caught:
            account.create("taken")
        assert caught.value.code == 10014
        for title in ("", "x" * 513):
            with pytest.raises(kvdict.ConfigError, match="1 to 512"):
                account.create(title)

    def test_every_page_of_namespaces_is_read(self, account: kvdict.Account) -> None:
        titles = [f"{number:03}" for number in range(250)]
        for title in titles:
            account.client.create_namespace(title)
        assert sorted(account) == titles
        assert account.open("249").title == "249"

    def test_what_was_opened_stays_open_when_the_account_is_closed(self, tmp_path: Any) -> None:
        account = kvdict.Account(tmp_path / "app.db")
        kv = account.create("t")
        account.close()
        account.close()
        kv["k"] = 1
        assert kv["k"] == 1
        kv.close()

    def test_what_is_closed_while_it_closes_leaves_the_account_open(
        self, account: kvdict.Account
    ) -> None:
        account.create("t").close()
        buffer = kvdict.WriteBuffer(on_flush=lambda _: kv.close())
        kv = account.open("t", buffer=buffer)
        kv["k"] = 1
        kv.close()
        assert account["t"]["k"] == 1

    def test_a_closed_one_says_so(self, account: kvdict.Account) -> None:
        account.close()
        uses: list[Callable[[], Any]] = [
            lambda: account.client, lambda: list(account), lambda: account["t"],
            lambda: account.open("t"), lambda: account.create("t"), lambda: account.__enter__(),
        ]  # fmt: skip
        for use in uses:
            with pytest.raises(kvdict.ClosedError, match="<Account .* is closed; open it again"):
                use()

    def test_without_arguments_it_is_the_home_of_kvdict_url_too(
        self, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("KVDICT_URL", f"sqlite:///{tmp_path}/app.db?namespace=mine")
        kvdict.open().close()
        with kvdict.Account() as account:
            assert list(account) == ["mine"]

    @pytest.mark.usefixtures("cloudflare")
    def test_without_arguments_it_is_the_environments(self) -> None:
        with responses.RequestsMock() as mock:
            mock.get(API, json={"success": True, "result": [], "result_info": {"total_count": 0}})
            assert list(kvdict.Account()) == []
            assert list(kvdict.Account(ACCOUNT)) == []
            assert list(kvdict.Account(f"kv://{ACCOUNT}")) == []


class TestPickle:
    def test_a_namespace_is_pickled_as_how_to_open_it(self, tmp_path: Any) -> None:
        with kvdict.open(tmp_path / "app.db", prefix="p:", codec="text") as kv:
            kv["k"] = "v"
            with pickle.loads(pickle.dumps(kv.prefixed("q:", expiration_ttl=60))) as copy:
                assert (copy.prefix, copy.codec, copy.expiration_ttl) == ("p:q:", kv.codec, 60)
                copy["k"] = "w"
            assert kv["q:k"] == "w"

    @pytest.mark.parametrize("buffered", [False, True])
    @pytest.mark.parametrize("cached", [False, True])
    @pytest.mark.usefixtures("cloudflare")
    def test_it_writes_and_reads_in_the_same_manner_when_it_is_opened_again(
        self, buffered: bool, cached: bool
    ) -> None:
        kv = kvdict.open(NAMESPACE, buffer=buffered, cache=cached, read_ahead=cached)
        with pickle.loads(pickle.dumps(kv.prefixed("p:"))) as copy:
            assert copy.buffer.write_through is not buffered
            assert (copy.cache is not None) is cached
            assert copy._backing.reads_ahead is cached
        kv.close()

    @pytest.mark.parametrize("codec", ["json", "text", "bytes", "pickle"])
    def test_a_codec_that_was_named_is_that_one_again(self, tmp_path: Any, codec: Any) -> None:
        with kvdict.open(tmp_path / "app.db", codec=codec) as kv:
            copy = pickle.loads(pickle.dumps(kv))
            assert repr(copy.codec) == repr(kv.codec) == repr(codec)
            copy.close()

    def test_a_codec_of_pickles_keeps_its_protocol(self, tmp_path: Any) -> None:
        with (
            kvdict.open(tmp_path / "app.db", codec=kvdict.PickleCodec(protocol=2)) as kv,
            pickle.loads(pickle.dumps(kv)) as copy,
        ):
            copy["k"] = 1
            assert base64.b64decode(kv.using("bytes")["k"]) == pickle.dumps(1, 2)

    def test_a_private_memory_cannot_be_opened_elsewhere(self) -> None:
        with kvdict.open("memory://") as kv, pytest.raises(TypeError, match="memory://NAME"):
            pickle.dumps(kv)

    @pytest.mark.usefixtures("cloudflare")
    def test_the_token_is_not_in_the_pickle_but_taken_from_the_environment_again(self) -> None:
        kv = kvdict.open(NAMESPACE, token="explicit-secret", base_url="http://127.0.0.1:1/v4")
        data = pickle.dumps(kv)
        for secret in (b"explicit-secret", base64.b64encode(b"explicit-secret"), b"a-token"):
            assert secret not in data
        copy = pickle.loads(data)
        assert copy.id == NAMESPACE
        assert copy.client.transport.base_url == "http://127.0.0.1:1/v4"

    def test_a_signed_codec_refuses_to_write_its_secret_down(self, tmp_path: Any) -> None:
        with (
            kvdict.open(tmp_path / "a.db", codec=kvdict.PickleCodec("s3cret")) as kv,
            pytest.raises(TypeError, match="secret"),
        ):
            pickle.dumps(kv)


@pytest.mark.parametrize("secret", [5, True, ["s3cret"]])
def test_a_secret_that_is_no_text_is_refused_when_the_codec_is_made(secret: Any) -> None:
    with pytest.raises(kvdict.ConfigError, match="a secret is str or bytes"):
        kvdict.PickleCodec(secret)


def test_a_signed_pickle_is_refused_without_the_secret(tmp_path: Any) -> None:
    with kvdict.open(tmp_path / "a.db", codec=kvdict.PickleCodec("one")) as kv:
        kv["k"] = {1, 2}
        assert kv["k"] == {1, 2}
        for codec in (kvdict.PickleCodec("two"), kvdict.PickleCodec(b"three")):
            with pytest.raises(kvdict.CodecError, match="signature"):
                kv.using(codec)["k"]
        kv.using("pickle")["evil"] = "unsigned"
        with pytest.raises(kvdict.CodecError, match="signature"):
            kv["evil"]
        assert "one" not in repr(kv)
        with pytest.raises(kvdict.ConfigError):
            kvdict.PickleCodec("")


def test_the_same_program_runs_in_a_file_and_against_a_server(
    tmp_path: pathlib.Path, server: Server
) -> None:
    program = (
        "import kvdict\n"
        "with kvdict.open(create=True) as kv:\n"
        "    kv['a'] = [1]\n"
        "    kv.update(b=2)\n"
        "    print(dict(kv.items()), len(kv))\n"
    )
    for url in (
        f"sqlite:///{tmp_path}/p.db",
        f"{account_of(server)}/program-{os.urandom(4).hex()}",
    ):
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", program],
            env={**os.environ, "KVDICT_URL": url},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert (done.stdout, done.stderr) == ("{'a': [1], 'b': 2} 2\n", "")


def test_a_file_name_that_is_not_utf8_is_opened(tmp_path: pathlib.Path) -> None:
    path = tmp_path / os.fsdecode(b"\xff.db")
    with kvdict.open(path) as kv:
        kv["k"] = 1
        assert "%FF.db" in repr(kv)
    with kvdict.open(path) as kv:
        assert kv["k"] == 1


@pytest.mark.parametrize("buffer", ["yes", 60, kvdict.WriteBuffer])
def test_a_buffer_that_is_none_is_refused(buffer: Any) -> None:
    with pytest.raises(kvdict.ConfigError, match="expected None, True, False or a WriteBuffer"):
        kvdict.open("memory://", buffer=buffer)


def test_account_and_token_that_are_both_missing_are_both_named() -> None:
    with pytest.raises(kvdict.ConfigError) as caught:
        kvdict.open("links")
    assert "set CLOUDFLARE_ACCOUNT_ID" in str(caught.value)
    assert "set CLOUDFLARE_API_TOKEN" in str(caught.value)


def test_a_title_in_the_place_of_the_account_is_told_its_own() -> None:
    with pytest.raises(kvdict.ConfigError, match="third slash: kv:///TITLE"):
        kvdict.open("kv://links")
    with pytest.raises(kvdict.ConfigError, match="account: kv.http://HOST:PORT/ACCOUNT/TITLE"):
        kvdict.open("kv+http://127.0.0.1:8787/links")


@pytest.mark.usefixtures("cloudflare", "listed")
def test_a_title_that_is_the_name_of_a_file_asks_whether_that_was_meant(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    kvdict.open("sqlite:///app.db").close()
    with pytest.raises(kvdict.NotFoundError) as caught:
        kvdict.open("app.db")
    assert str(caught.value).endswith(
        "makes a missing one. Was the file of that name meant? That is"
        " kvdict.open('sqlite:///app.db')"
    )
    with pytest.raises(kvdict.NotFoundError) as caught:
        kvdict.open("app.txt")
    assert str(caught.value).endswith("makes a missing one")


def test_where_there_is_no_namespace_yet_none_are_offered(tmp_path: pathlib.Path) -> None:
    with pytest.raises(kvdict.NotFoundError) as caught:
        kvdict.open(tmp_path / "app.db", create=False)
    assert "no namespace has the title 'default'; kvdict.open(..., create=True)" in str(
        caught.value
    )


def test_bytes_are_told_of_the_codec_that_takes_them() -> None:
    with kvdict.open("memory://") as kv:
        with pytest.raises(kvdict.CodecError, match=r"store it through kv.using\('bytes'\)"):
            kv["k"] = b"raw"
        kv.using("bytes")["k"] = b"raw"
        assert kv.using("bytes")["k"] == b"raw"


@pytest.mark.parametrize(
    ("where", "says"),
    [
        ("sqlite:app.db", "two slashes are missing"), ("sqlite:///:memory:", "memory:// here"),
        ("kv+http://[::1/account/title", "understood are"),
    ],
)  # fmt: skip
def test_what_is_nearly_a_url_is_explained(where: str, says: str) -> None:
    with pytest.raises(kvdict.ConfigError, match=says):
        kvdict.open(where)


@pytest.mark.usefixtures("cloudflare")
def test_a_namespace_that_somebody_else_makes_meanwhile_is_found() -> None:
    there = {"success": True, "result": [{"id": NAMESPACE, "title": "links"}]}
    taken = {"success": False, "errors": [{"code": 10014, "message": "title exists"}]}
    with responses.RequestsMock() as mock:
        mock.get(API, json={"success": True, "result": []})
        mock.post(API, status=400, json=taken)
        mock.get(API, json=there)
        with kvdict.open("links", create=True) as kv:
            assert (kv.id, kv.title) == (NAMESPACE, "links")


@pytest.mark.usefixtures("cloudflare")
def test_a_namespace_that_may_not_be_made_is_the_services_error() -> None:
    refused = {"success": False, "errors": [{"code": 10026, "message": "too many namespaces"}]}
    with responses.RequestsMock() as mock:
        mock.get(API, json={"success": True, "result": []})
        mock.post(API, status=400, json=refused)
        with pytest.raises(kvdict.APIError, match="too many namespaces"):
            kvdict.open("links", create=True)
