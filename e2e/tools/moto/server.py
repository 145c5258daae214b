"""Route 53 as moto imitates it, with one hosted zone that a name server publishes.

Each change that moto has accepted is sent to the name server by nsupdate, as Route 53 publishes what its API has taken.

moto compares a deletion with all that ever was in the zone, and a creation with what was before its batch. Route 53 takes
what is there, in the order of the batch. So moto's journal is cut down to what is there after each batch.
"""

import argparse
import pathlib
import subprocess
import sys
import threading
import xml.etree.ElementTree as xml

parser = argparse.ArgumentParser()
parser.add_argument("--library", required=True)
parser.add_argument("--address", required=True)
parser.add_argument("--port", type=int, required=True)
parser.add_argument("--certificate", required=True, help="PEM of the certificate and its key")
parser.add_argument("--zone", required=True)
parser.add_argument("--zone-id", required=True, help="file for the id of the zone")
parser.add_argument("--name-server", required=True)
parser.add_argument("--tsig", required=True, help="algorithm:name:secret")
arguments = parser.parse_args()
sys.path.insert(0, arguments.library)

from moto.core import DEFAULT_ACCOUNT_ID  # noqa: E402
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app  # noqa: E402
from moto.route53.models import ChangeList, route53_backends  # noqa: E402
from werkzeug.serving import run_simple  # noqa: E402
from werkzeug.test import Client  # noqa: E402

VERSION = "2013-04-01"
# moto chooses the service by the scope, and verifies no signature.
SIGNED = {
    "Authorization": "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/route53/aws4_request, "
    "SignedHeaders=host, Signature=none"
}
LED = {"A", "AAAA", "CNAME", "MX", "TXT"}

api = DomainDispatcherApplication(create_backend_app)
inside = Client(api)
turn = threading.Lock()
published = set()


def texts(node, name):
    return [found.text for found in node.iter() if found.tag.endswith("}" + name)]


def create_zone():
    body = (
        f'<CreateHostedZoneRequest xmlns="https://route53.amazonaws.com/doc/{VERSION}/"><Name>{arguments.zone}.</Name>'
        "<CallerReference>1</CallerReference></CreateHostedZoneRequest>"
    )
    answer = inside.post(f"/{VERSION}/hostedzone", data=body, headers=SIGNED)
    assert answer.status_code == 201, answer.text
    return texts(xml.fromstring(answer.data), "Id")[0].rsplit("/", 1)[-1]


def record_sets(zone_id):
    answer = inside.get(f"/{VERSION}/hostedzone/{zone_id}/rrset", headers=SIGNED)
    assert answer.status_code == 200, answer.text
    for found in xml.fromstring(answer.data).iter():
        if found.tag.endswith("}ResourceRecordSet"):
            name, record_type = texts(found, "Name")[0], texts(found, "Type")[0]
            if record_type in LED:
                yield name, record_type, texts(found, "TTL")[0], texts(found, "Value")


def forget_what_was(zone_id):
    zone = route53_backends[DEFAULT_ACCOUNT_ID]["aws"].zones[zone_id]
    zone.rr_changes = ChangeList()
    for one in zone.rrsets:
        values = [{"Value": value} for value in one.records]
        record_set = {"Name": one.name, "Type": one.type, "TTL": one.ttl, "ResourceRecords": values}
        zone.rr_changes.append({"Action": "CREATE", "ResourceRecordSet": record_set})


def publish(zone_id):
    lines = [f"server {arguments.name_server}", f"zone {arguments.zone}"]
    sets = list(record_sets(zone_id))
    present = {(name, record_type) for name, record_type, _, _ in sets}
    lines += [f"update delete {name} {record_type}" for name, record_type in sorted(present | published)]
    for name, record_type, ttl, values in sets:
        lines += [f"update add {name} {ttl} {record_type} {value}" for value in values]
    text = "\n".join([*lines, "send", ""])
    subprocess.run(["nsupdate", "-v", "-y", arguments.tsig], input=text, text=True, check=True)
    published.clear()
    published.update(present)


def route53(environ, start_response):
    is_change = environ["REQUEST_METHOD"] == "POST" and "/rrset" in environ["PATH_INFO"]
    if not is_change:
        return api(environ, start_response)
    with turn:
        answer = list(api(environ, start_response))
        forget_what_was(zone_id)
        publish(zone_id)
    return answer


zone_id = create_zone()
place = pathlib.Path(arguments.zone_id)
beside = place.with_suffix(".next")
beside.write_text(zone_id)
beside.rename(place)
certificate = (arguments.certificate, arguments.certificate)
run_simple(arguments.address, arguments.port, route53, threaded=True, ssl_context=certificate)
