"""The manifests for Kubernetes: valid, of one mind, and as the daemon has it."""

from __future__ import annotations

import re
from ipaddress import ip_address, ip_network
from typing import Any

import jsonschema
import kubernetes_validate
import pytest

from tests.docs.documents import read
from tests.manifests import (
    ALL,
    BALANCERS,
    BASE,
    KUBERNETES,
    MEMBERS,
    NAMESPACE,
    ROOT,
    Object,
    container,
    environment,
    kustomization,
    pod,
    selects,
    the,
)
from tortxd.config import DaemonConfig
from tortxd.daemon import TOR_ENDS_WITHIN
from tortxd.endpoints import split_endpoint
from tortxd.options import OPTIONS

OLDEST = "1.31.0"
"""As packaging/kubernetes/kustomization.yaml says."""
OWNERS = (MEMBERS, BALANCERS)
HAPROXY = (KUBERNETES / "haproxy.cfg").read_text("utf-8")

# --- each by itself -------------------------------------------------------------------------------


def named(one: Object) -> str:
    return f"{one['kind']} {one['metadata']['name']}"


def of_the_operator(one: Object) -> bool:
    return str(one["apiVersion"]).startswith("monitoring.coreos.com/")


@pytest.mark.parametrize("version", [OLDEST, kubernetes_validate.latest_version()])
@pytest.mark.parametrize("one", [one for one in ALL if not of_the_operator(one)], ids=named)
def test_each_object_is_valid(one: Object, version: str) -> None:
    kubernetes_validate.validate(one, version, strict=True)


def closed(required: dict[str, Any], **optional: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {**required, **optional},
        "required": list(required),
        "additionalProperties": False,
    }


TEXT = {"type": "string", "minLength": 1}
LABELS = {"type": "object", "additionalProperties": TEXT}
SELECTOR = closed({"matchLabels": LABELS})
SECONDS = {"type": "string", "pattern": "^[0-9]+s$"}
KEY = closed({"name": TEXT, "key": TEXT})
CREDENTIALS = closed(
    {"type": {"const": "Bearer"}, "credentials": closed({"name": TEXT, "key": TEXT})}
)
SCRAPE = closed({"port": TEXT, "path": TEXT, "interval": SECONDS}, authorization=CREDENTIALS)
OF_THE_OPERATOR = {
    "ServiceMonitor": closed(
        {"selector": SELECTOR, "endpoints": {"type": "array", "items": SCRAPE}}, jobLabel=TEXT
    ),
    "PodMonitor": closed(
        {"selector": SELECTOR, "podMetricsEndpoints": {"type": "array", "items": SCRAPE}}
    ),
    "PrometheusRule": closed(
        {
            "groups": {
                "type": "array",
                "items": closed(
                    {
                        "name": TEXT,
                        "rules": {"type": "array", "items": closed({"record": TEXT, "expr": TEXT})},
                    }
                ),
            }
        }
    ),
}
"""What is used of the Prometheus operator's API. Its own schemas are in npm's
@kubernetes-models/prometheus-operator 6.0.0; all that is here was found valid by these."""


@pytest.mark.parametrize("one", [one for one in ALL if of_the_operator(one)], ids=named)
def test_what_the_prometheus_operator_reads(one: Object) -> None:
    jsonschema.validate(one["spec"], OF_THE_OPERATOR[one["kind"]])
    assert one.keys() == {"apiVersion", "kind", "metadata", "spec"}
    assert one["apiVersion"] == "monitoring.coreos.com/v1"


def test_a_plain_cluster_knows_all_kinds() -> None:
    assert not any(map(of_the_operator, BASE))


def test_the_lists_name_every_file() -> None:
    files = {str(file.relative_to(KUBERNETES)) for file in KUBERNETES.rglob("*") if file.is_file()}
    listed = {"autoscaling/adapter.yaml"}  # for prometheus-adapter
    for part in (".", "monitoring", "autoscaling"):
        found = kustomization(part)
        sources = [name for one in found.get("configMapGenerator", ()) for name in one["files"]]
        for name in ("kustomization.yaml", *found["resources"], *sources):
            listed.add(f"{part}/{name}".removeprefix("./"))
    assert files == listed


def test_names_are_unique_and_in_no_other_namespace() -> None:
    assert len({named(one) for one in ALL}) == len(ALL)
    assert {one["metadata"].get("namespace", NAMESPACE) for one in ALL} == {NAMESPACE}
    assert kustomization()["namespace"] == the("Namespace", NAMESPACE)["metadata"]["name"]


# --- who may do what ------------------------------------------------------------------------------


@pytest.mark.parametrize("owner", OWNERS, ids=named)
def test_pods_may_do_as_little_as_can_be(owner: Object) -> None:
    spec, only = pod(owner)["spec"], container(owner)
    assert spec["automountServiceAccountToken"] is spec["enableServiceLinks"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] > 0 < spec["securityContext"]["runAsGroup"]
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert only["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert not {"hostNetwork", "hostPID", "hostIPC", "initContainers"} & spec.keys()
    assert not any("hostPath" in volume for volume in spec["volumes"])
    assert only["resources"].keys() == {"requests", "limits"}


def test_the_members_user_is_the_images() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text("utf-8")
    context = pod(MEMBERS)["spec"]["securityContext"]
    (group,) = re.findall(r"groupadd --system --gid ([0-9]+) tortxd\b", dockerfile)
    (user,) = re.findall(r"useradd --system --uid ([0-9]+) --gid tortxd\b.* tortxd\b", dockerfile)
    assert (context["runAsUser"], context["runAsGroup"]) == (int(user), int(group))
    assert context["fsGroup"] == int(group)


def test_the_secret_is_one_of_two_keys_and_its_values_are_nowhere() -> None:
    assert not [one for one in ALL if one["kind"] == "Secret"]
    (volume,) = (one for one in pod(MEMBERS)["spec"]["volumes"] if "secret" in one)
    mounted = {one["key"]: one["path"] for one in volume["secret"]["items"]}
    (monitored,) = the("ServiceMonitor", "tortxd")["spec"]["endpoints"]
    credentials = monitored["authorization"]["credentials"]
    (shown,) = (
        one["valueFrom"]["secretKeyRef"]
        for one in container(BALANCERS)["env"]
        if "secretKeyRef" in one.get("valueFrom", ())
    )
    secret = volume["secret"]["secretName"]
    assert credentials == {"name": secret, "key": "operator-token"}
    assert shown == {"name": secret, "key": "token"}
    assert mounted == {"token": "token", "operator-token": "operator-token"}
    # Root's, and readable for the group of the pod.
    assert volume["secret"]["defaultMode"] == 0o440

    (command,) = re.findall(r"create secret generic(?:\\\n|.)*", read("docs/kubernetes.md"))
    assert f" {secret} " in command
    assert set(re.findall(r"--from-file=([\w-]+)=", command)) == mounted.keys()


def networks(policy: str) -> list[Object]:
    (rule,) = the("NetworkPolicy", policy)["spec"]["egress"]
    assert rule["ports"] == [{"protocol": "TCP"}]
    return [to["ipBlock"] for to in rule["to"]]


@pytest.mark.parametrize(
    ("address", "allowed"),
    [
        ("193.23.244.244", True),
        ("2620:13:4000:6000::1000:118", True),
        *((address, False) for address in ("10.96.0.10", "172.31.0.1", "192.168.1.1", "127.0.0.1")),
        *((address, False) for address in ("169.254.169.254", "169.254.20.10", "100.100.100.200")),
        *((address, False) for address in ("0.0.0.0", "224.0.0.1", "255.255.255.255")),
        *((address, False) for address in ("::1", "fe80::1", "fd00:ec2::254", "ff02::1")),
        *((address, False) for address in ("::ffff:10.0.0.1", "64:ff9b::a00:1", "2002:a00:1::")),
    ],
)
def test_where_members_may_connect(address: str, allowed: bool) -> None:
    """Public addresses: no cluster, no cloud's metadata, nothing that is mapped onto either."""
    one = ip_address(address)

    def within(cidr: str) -> bool:
        network = ip_network(cidr)
        return one.version == network.version and one in network

    assert allowed is any(
        within(block["cidr"]) and not any(map(within, block["except"]))
        for block in networks("tortxd-members")
    )


def test_who_may_connect_to_whom() -> None:
    policies = {
        one["metadata"]["name"]: one["spec"] for one in ALL if one["kind"] == "NetworkPolicy"
    }
    everyone = policies.pop("default-deny")
    assert everyone == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}

    def ways(owner: Object, direction: str, peer: str) -> dict[str, list[int]]:
        (policy,) = (
            one
            for one in policies.values()
            if selects(one["podSelector"], pod(owner)["metadata"]["labels"])
        )
        found = {}
        for rule in policy[direction]:
            for other in rule[peer]:
                found[who(other)] = [port.get("port") for port in rule["ports"]]
        return found

    def who(peer: Object) -> str:
        if "ipBlock" in peer:
            return "public"
        labels = peer.get("podSelector", {}).get("matchLabels")
        for owner in OWNERS:
            if labels and labels.items() <= pod(owner)["metadata"]["labels"].items():
                assert "namespaceSelector" not in peer
                return named(owner)
        space = peer["namespaceSelector"]
        return " ".join((*(space.get("matchLabels") or {"any": "any"}).values(), *(labels or ())))

    members, balancers = named(MEMBERS), named(BALANCERS)
    assert ways(MEMBERS, "ingress", "from") == {balancers: [3080], "monitoring": [3081]}
    assert ways(MEMBERS, "egress", "to") == {"public": [None]}
    assert ways(BALANCERS, "ingress", "from") == {"any tortxd-client": [3080], "monitoring": [8404]}
    assert ways(BALANCERS, "egress", "to") == {members: [3080], "kube-system k8s-app": [53, 53]}


# --- of one mind ----------------------------------------------------------------------------------


@pytest.mark.parametrize("owner", OWNERS, ids=named)
def test_selectors_select(owner: Object) -> None:
    other_owner = BALANCERS if owner is MEMBERS else MEMBERS
    labels, other = (pod(one)["metadata"]["labels"] for one in (owner, other_owner))
    assert selects(owner["spec"]["selector"], labels)
    assert not selects(owner["spec"]["selector"], other)
    service = the("Service", "tortxd-members" if owner is MEMBERS else "tortxd")
    budget = the("PodDisruptionBudget", owner["metadata"]["name"])
    for selector in (
        {"matchLabels": service["spec"]["selector"]},
        budget["spec"]["selector"],
        *(one["labelSelector"] for one in pod(owner)["spec"]["topologySpreadConstraints"]),
    ):
        assert selects(selector, labels)
        assert not selects(selector, other)


@pytest.mark.parametrize("owner", OWNERS, ids=named)
def test_ports_match(owner: Object) -> None:
    ports = {one["name"]: one["containerPort"] for one in container(owner)["ports"]}
    service = the("Service", "tortxd-members" if owner is MEMBERS else "tortxd")
    for one in service["spec"]["ports"]:
        assert ports[one["targetPort"]] == one["port"]
    if owner is MEMBERS:
        listens = [
            int("".join(positional[-1:]))
            for positional, _ in map(split_endpoint, environment(owner)["TORTXD_HTTP"].split(","))
        ]
        assert listens == [ports["gateway"], ports["operators"]]
    else:
        assert environment(owner)["TORTXD_BIND"] == f":{ports['gateway']}"
        assert environment(owner)["TORTXD_ADMIN"] == f":{ports['admin']}"
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        if "httpGet" in container(owner).get(probe, ()):
            assert container(owner)[probe]["httpGet"]["port"] in ports


def test_who_watches_finds_what_is_watched() -> None:
    monitor = the("ServiceMonitor", "tortxd")["spec"]
    seen = [
        named(one)
        for one in ALL
        if one["kind"] == "Service" and selects(monitor["selector"], one["metadata"]["labels"])
    ]
    assert seen == ["Service tortxd-members"]
    service = the("Service", "tortxd-members")
    assert monitor["endpoints"][0]["port"] in [one["name"] for one in service["spec"]["ports"]]
    # The name that docs/alerts.yml has for the job.
    assert service["metadata"]["labels"][monitor["jobLabel"]] == "tortxd"
    watched = the("PodMonitor", "tortxd-balancer")["spec"]
    assert selects(watched["selector"], pod(BALANCERS)["metadata"]["labels"])
    ports = [one["name"] for one in container(BALANCERS)["ports"]]
    assert watched["podMetricsEndpoints"][0]["port"] in ports


def test_the_autoscaler_scales_the_members_as_far_as_the_balancer_knows_them() -> None:
    spec = the("HorizontalPodAutoscaler", "tortxd")["spec"]
    target = spec["scaleTargetRef"]
    assert (target["apiVersion"], target["kind"]) == (MEMBERS["apiVersion"], MEMBERS["kind"])
    assert target["name"] == MEMBERS["metadata"]["name"]
    known = {int(number) for number in re.findall(r"^ *server tortxd-(\d+) ", HAPROXY, re.M)}
    assert known == set(range(1, spec["maxReplicas"] + 1))
    (patch,) = kustomization("autoscaling")["patches"]
    assert patch["target"] == {"kind": "StatefulSet", "name": "tortxd"}
    assert spec["minReplicas"] == MEMBERS["spec"]["replicas"]
    (rule,) = the("PrometheusRule", "tortxd")["spec"]["groups"][0]["rules"]
    (metric,) = spec["metrics"]
    assert metric["pods"]["metric"]["name"] == rule["record"]
    assert rule["record"] in (KUBERNETES / "autoscaling" / "adapter.yaml").read_text("utf-8")
    metrics = read("docs/metrics.md")
    for name in re.findall(r"rate\((\w+)", rule["expr"]):
        assert f"| `{name}` | counter |" in metrics


def test_the_balancer_finds_each_member_by_its_name() -> None:
    spec, variables = MEMBERS["spec"], environment(BALANCERS)
    first = f"{MEMBERS['metadata']['name']}-{spec['ordinals']['start']}"
    service = the("Service", spec["serviceName"])
    assert service["spec"]["clusterIP"] == "None"
    host = f"{first}.{service['metadata']['name']}.{NAMESPACE}.svc.cluster.local"
    assert f"{variables['TORTXD_MEMBER_PREFIX']}1{variables['TORTXD_MEMBER_SUFFIX']}" == host


def test_clients_names_for_the_balancer_are_allowed() -> None:
    name = the("Service", "tortxd")["metadata"]["name"]
    domains = ("", f".{NAMESPACE}", f".{NAMESPACE}.svc", f".{NAMESPACE}.svc.cluster.local")
    allowed = environment(MEMBERS)["TORTXD_ALLOW_HOSTS"].split(",")
    assert allowed == [f"{name}{domain}" for domain in domains]


def test_variables_are_known() -> None:
    daemons = {variable.name for option in OPTIONS for variable in option.variables}
    mine = {one["name"] for one in container(MEMBERS)["env"]}
    assert {name for name in mine if name.startswith("TORTXD_")} < daemons
    for one in container(BALANCERS)["env"]:
        assert one["name"] == "POD_NAMESPACE" or f"${{{one['name']}" in HAPROXY


def test_files_are_where_variables_say() -> None:
    spec, variables = pod(MEMBERS)["spec"], environment(MEMBERS)
    mounts = {one["name"]: one["mountPath"] for one in container(MEMBERS)["volumeMounts"]}
    (claim,) = MEMBERS["spec"]["volumeClaimTemplates"]
    volumes = {one["name"]: one for one in spec["volumes"]}
    assert mounts.keys() == {claim["metadata"]["name"], *volumes}
    for item in volumes["tokens"]["secret"]["items"]:
        variable = f"TORTXD_{item['key'].upper().replace('-', '_')}_FILE"
        assert variables[variable] == f"{mounts['tokens']}/{item['path']}"
    (generated,) = (
        one
        for one in kustomization()["configMapGenerator"]
        if one["name"] == volumes["torrc"]["configMap"]["name"]
    )
    assert variables["TORTXD_TORRC"] == f"{mounts['torrc']}/{generated['files'][0]}"
    # A volume's own folder is root's, which the daemon refuses.
    assert variables["TORTXD_DATA_DIR"].startswith(f"{mounts['state']}/")
    assert f"{variables['XDG_STATE_HOME']}/tortxd" == mounts["state"]


def test_probes_ask_what_they_are_for() -> None:
    """What only a restart would help is for liveness alone."""
    dockerfile = (ROOT / "Dockerfile").read_text("utf-8")
    program = (ROOT / "tools" / "container_health.py").read_text("utf-8")
    (patience,) = re.findall(r"^PATIENCE = ([0-9.]+)$", program, re.MULTILINE)
    for name, words in (("startup", ["--live"]), ("readiness", []), ("liveness", ["--live"])):
        probe = container(MEMBERS)[f"{name}Probe"]
        assert probe["exec"]["command"] == ["container-health", *words]
        assert probe["timeoutSeconds"] > float(patience)
    assert "tools/container_health.py /usr/local/bin/container-health\n" in dockerfile


def test_members_have_the_time_that_they_take_to_stop() -> None:
    variables = environment(MEMBERS)
    names = ("TORTXD_DRAIN", "TORTXD_ALLOW_HOSTS", "TORTXD_LOG_FORMAT")
    config = DaemonConfig.load({}, {name: variables[name] for name in names})
    given = pod(MEMBERS)["spec"]["terminationGracePeriodSeconds"]
    assert given >= config.drain + TOR_ENDS_WITHIN + 5
