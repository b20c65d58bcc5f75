{{/* The rights that the operator needs in a namespace, and no others. */}}
{{- define "muster.rules" -}}
# Muster's resources: the operator reads all of them and changes only finalizers and status.
- apiGroups: [muster.dev]
  resources: [agents, boards, agentgateways]
  verbs: [list, watch]
- apiGroups: [muster.dev]
  resources: [agents]
  verbs: [get]
- apiGroups: [muster.dev]
  resources: [agents, agentgateways]
  verbs: [patch]
- apiGroups: [muster.dev]
  resources: [agents/status, boards/status, agentgateways/status]
  verbs: [update]
# Owner references of Secrets that block the owner's deletion.
- apiGroups: [muster.dev]
  resources: [agents/finalizers, agentgateways/finalizers]
  verbs: [update]
# Secrets by name only: the gateways' credentials, the device identities and the agents' tokens. The operator never lists or watches Secrets.
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, create, update, delete]
# Templates. The watch carries metadata only.
- apiGroups: [""]
  resources: [configmaps]
  verbs: [get, list, watch]
# Labels of namespaces, for spec.allowedNamespaces.
- apiGroups: [""]
  resources: [namespaces]
  verbs: [get]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end -}}

{{/* The API for people: the owner of a token and the owner's rights. They give no access to any object. Writes of people use their own token. */}}
{{- define "muster.reviewRules" -}}
- apiGroups: [authentication.k8s.io]
  resources: [tokenreviews]
  verbs: [create]
- apiGroups: [authorization.k8s.io]
  resources: [subjectaccessreviews]
  verbs: [create]
{{- end -}}
