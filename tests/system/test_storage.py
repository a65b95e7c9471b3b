import sys
from importlib import import_module
from pathlib import Path

import boto3
import fsspec
import pytest
from moto.core import set_initial_no_auth_action_count

from wine_quality.errors import WineQualityError
from wine_quality.system.storage import (
    address_of,
    check_place,
    describe_trouble,
    find_store,
    is_address,
    is_from_store,
    write_whole,
)

ADVICE = (
    "see that the bucket is there, that AWS_ENDPOINT_URL, where it is set, leads to the store that "
    "has it, and that your credentials may list, read and write there."
)


@pytest.fixture(params=["disk", "store"])
def place(request, tmp_path):
    """A file system, and a folder in it that is not there yet."""
    if request.param == "disk":
        return fsspec.filesystem("file"), f"{tmp_path}/new/folder"
    store = request.getfixturevalue("store")
    return store.files, f"{store.bucket}/new/folder"


def test_an_address_is_told_from_a_path():
    assert is_address("s3://wines/data")
    assert not is_address("/var/wines")
    assert not is_address("data/01_raw/sample")


def test_files_are_named_as_a_person_does(store, tmp_path):
    assert address_of(store.files, "wines/a.html") == "s3://wines/a.html"
    assert address_of(fsspec.filesystem("file"), f"{tmp_path}/a.html") == f"{tmp_path}/a.html"


# writing


def test_a_file_appears_whole(place):
    files, folder = place
    with write_whole(files, f"{folder}/wines.txt") as file:
        file.write(b"red")
        assert not files.exists(f"{folder}/wines.txt")
    assert files.cat_file(f"{folder}/wines.txt") == b"red"
    with write_whole(files, f"{folder}/wines.txt") as file:
        file.write(b"white")
        file.flush()
        assert files.cat_file(f"{folder}/wines.txt") == b"red"
    assert files.cat_file(f"{folder}/wines.txt") == b"white"
    assert [Path(path).name for path in files.find(folder)] == ["wines.txt"]


@pytest.mark.parametrize("kind", [OSError, KeyboardInterrupt])
def test_what_fails_leaves_the_file_as_it_was_and_nothing_beside_it(place, kind):
    files, folder = place
    with write_whole(files, f"{folder}/wines.txt") as file:
        file.write(b"red")

    def break_off():
        with write_whole(files, f"{folder}/wines.txt") as file:
            file.write(b"whi")
            raise kind("no more")

    with pytest.raises(kind, match="no more"):
        break_off()
    assert files.cat_file(f"{folder}/wines.txt") == b"red"
    assert [Path(path).name for path in files.find(folder)] == ["wines.txt"]


def test_no_bucket_is_made(store):
    with (
        pytest.raises(FileNotFoundError, match="bucket does not exist"),
        write_whole(store.files, "no-such-bucket/wines.txt") as file,
    ):
        file.write(b"red")
    assert not store.files.exists("no-such-bucket")


# places


def refused(address):
    with pytest.raises(WineQualityError) as caught:
        check_place(address)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{address} cannot be used (")
    return message


def test_a_place_may_be_empty(store):
    check_place(store.address)
    check_place(f"{store.address}/nothing/yet")
    store.files.pipe_file(f"{store.bucket}/data/a", b"")
    check_place(f"{store.address}/data")


def test_a_bucket_that_is_not_there(store):
    assert refused("s3://no-such-bucket/data") == (
        "s3://no-such-bucket/data cannot be used (ListObjectsV2: NoSuchBucket, The specified "
        f"bucket does not exist): {ADVICE}"
    )


def test_a_store_that_is_not_there(store, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    store.files.clear_instance_cache()
    assert 'Could not connect to the endpoint URL: "http://127.0.0.1:1/' in refused(store.address)


def test_credentials_that_are_not_there(store, monkeypatch, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    store.files.clear_instance_cache()
    assert "(Unable to locate credentials)" in refused(store.address)


@set_initial_no_auth_action_count(0)
def refused_with_rights_checked(address):
    return refused(address)


def test_a_key_that_nobody_knows(store):
    message = refused_with_rights_checked(store.address)
    assert "InvalidAccessKeyId" in message
    assert "open-sesame" not in message


def test_a_key_without_rights(store, monkeypatch):
    iam = boto3.client("iam", endpoint_url=store.endpoint)
    iam.create_user(UserName="guest")
    key = iam.create_access_key(UserName="guest")["AccessKey"]
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key["AccessKeyId"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key["SecretAccessKey"])
    store.files.clear_instance_cache()
    assert "(ListObjectsV2: AccessDenied" in refused_with_rights_checked(store.address)


def test_the_extra_is_named_where_it_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "s3fs", None)
    # the package has a variable of the module's name
    monkeypatch.delitem(import_module("fsspec.registry")._registry, "s3", raising=False)
    with pytest.raises(WineQualityError) as caught:
        find_store("s3://wines/data")
    assert str(caught.value) == (
        "s3://wines/data cannot be used (Install s3fs to access S3): add the extras with "
        "'./just extras', or pip install 'wine-quality[s3]'."
    )


def test_an_address_that_nothing_reads():
    with pytest.raises(WineQualityError, match=r"^s4://wines cannot be used \(Protocol not known"):
        find_store("s4://wines")


# troubles


def test_only_a_stores_client_is_taken_for_one():
    assert not is_from_store(OSError("no"))
    assert not is_from_store(None)


def test_an_upload_of_mlflows_names_its_own_place(store, tmp_path):
    source = tmp_path / "model"
    source.write_text("")
    client = boto3.client("s3")
    with pytest.raises(boto3.exceptions.S3UploadFailedError) as caught:
        client.upload_file(str(source), "no-such-bucket", "artifacts/model")
    assert is_from_store(caught.value)
    message = describe_trouble(caught.value, "s3://wines/data/reference.parquet")
    assert message.startswith("The object store cannot be used (Failed to upload ")
    assert "to no-such-bucket/artifacts/model" in message
    assert "reference.parquet" not in message
