"""Validates manifests from standard input, for scripts/test-kubernetes.

    … | kubernetes-schemas.py NAME [CRD.yaml]

Native kinds go by the JSON schemas of Kubernetes, where a property that it does not know is
an error. So do the pod templates within an MPIJob; the rest of it goes by the schema in the
operator's CustomResourceDefinition.
"""

import sys

import jsonschema
import kubernetes_validate
import yaml

VERSIONS = ["1.31", "1.34", "1.37"]  # pod failure policies are stable since 1.31


def strict(schema):
    """The schema of a definition, with unknown properties as errors, as kubectl apply has them."""
    if isinstance(schema, dict):
        schema = {k: strict(v) for k, v in schema.items()}
        if "properties" in schema and "additionalProperties" not in schema and not schema.get("x-kubernetes-preserve-unknown-fields"):
            schema["additionalProperties"] = False
        if schema.get("x-kubernetes-int-or-string"):
            schema.pop("type", None)
    elif isinstance(schema, list):
        schema = [strict(v) for v in schema]
    return schema


def definition(path, version):
    with open(path) as f:
        crd = next(d for d in yaml.safe_load_all(f) if d["spec"]["names"]["kind"] == "MPIJob")
    schema = next(v["schema"]["openAPIV3Schema"] for v in crd["spec"]["versions"] if v["name"] == version)
    schema = strict(schema)
    schema["properties"]["metadata"] = {"type": "object"}
    return schema


def main():
    name, crd = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else ""
    for doc in yaml.safe_load_all(sys.stdin):
        kind = f"{name}: {doc['kind']} {doc['metadata']['name']}"
        native, versions = [doc], VERSIONS
        if doc["kind"] == "MPIJob":
            native = [{"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": role}, "template": spec["template"]}
                      for role, spec in doc["spec"]["mpiReplicaSpecs"].items()]
        try:
            for version in versions:
                for d in native:
                    kubernetes_validate.validate(d, version, strict=True)
            if native != [doc] and crd:
                jsonschema.validate(doc, definition(crd, doc["apiVersion"].split("/")[1]))
        except (kubernetes_validate.ValidationError, jsonschema.ValidationError) as e:
            sys.exit(f"swav: error: {kind}: {'.'.join(map(str, e.path))}: {e.message}")
        told = "its pods, Kubernetes" if native != [doc] else "Kubernetes"
        more = "" if native == [doc] else (", the operator's definition" if crd else "; not against the operator's definition: none was given")
        print(f"{kind:40} {told} {', '.join(versions)}{more}")


if __name__ == "__main__":
    main()
