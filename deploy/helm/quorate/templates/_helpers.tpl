{{/* What the policies ask for: rules, look-ups, annotations. The file is generated from their metadata. */}}
{{- define "quorate.facts" -}}
{{- .Files.Get "policies.yaml" -}}
{{- end -}}

{{/* Labels and annotations of an object. Takes root, component and name. */}}
{{- define "quorate.labels" -}}
app.kubernetes.io/name: {{ .name }}
app.kubernetes.io/component: {{ .component }}
app.kubernetes.io/part-of: quorate
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/instance: {{ .root.Release.Name | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name (.root.Chart.Version | replace "+" "_") }}
{{- with .root.Values.additionalLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Where a module is. Takes root, name, fact and values. */}}
{{- define "quorate.module" -}}
{{- $values := .values -}}
{{- if $values.module -}}
{{- $values.module -}}
{{- else if $values.digest -}}
{{- printf "registry://%s/%s@%s" .root.Values.registry .name $values.digest -}}
{{- else -}}
{{- printf "registry://%s/%s:%s" .root.Values.registry .name ($values.tag | default (printf "v%s" .fact.version)) -}}
{{- end -}}
{{- end -}}

{{/* The settings: those of all policies, those of this one, key by key, and whether it mutates. Takes root, fact, values and mutating. */}}
{{- define "quorate.settings" -}}
{{- $settings := dict -}}
{{- range $key, $value := .root.Values.settings -}}
{{- $_ := set $settings $key $value -}}
{{- end -}}
{{- range $key, $value := .values.settings -}}
{{- $_ := set $settings $key $value -}}
{{- end -}}
{{- if .fact.mutates -}}
{{- $_ := set $settings "mutate" .mutating -}}
{{- end -}}
{{- toYaml $settings -}}
{{- end -}}

{{/* What single policies and groups have in common, as fields of a spec. Takes root, values and audit. */}}
{{- define "quorate.spec" -}}
{{- $values := .values -}}
{{- $mode := $values.mode | default .root.Values.mode -}}
{{- $server := .root.Values.policyServer -}}
policyServer: {{ $server.name }}
mode: {{ $mode }}
failurePolicy: {{ $values.failurePolicy | default .root.Values.failurePolicy | default (eq $mode "protect" | ternary "Fail" "Ignore") }}
backgroundAudit: {{ and .audit (kindIs "bool" $values.backgroundAudit | ternary $values.backgroundAudit .root.Values.backgroundAudit) }}
timeoutSeconds: {{ $values.timeoutSeconds | default .root.Values.timeoutSeconds }}
# Expressions: of a selector of labels the controller would take nothing.
namespaceSelector:
  matchExpressions:
  - key: kubernetes.io/metadata.name
    operator: NotIn
    values:
    {{- concat .root.Values.excludedNamespaces (list $server.namespace) ($values.excludedNamespaces | default list) | uniq | toYaml | nindent 4 }}
# What no policy judges is not even asked: so a policy server that is down keeps no namespace from going, nor what the garbage collector takes.
matchConditions:
- name: not-who-cleans-up
  expression: "!(request.userInfo.username in ['system:serviceaccount:kube-system:generic-garbage-collector', 'system:serviceaccount:kube-system:namespace-controller'])"
- name: not-what-is-going
  expression: "request.operation == 'CREATE' || !has(oldObject.metadata.deletionTimestamp)"
{{- with $values.matchConditions }}
{{ toYaml . }}
{{- end }}
{{- with $values.objectSelector }}
objectSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Severity and category, for audit reports. Takes root, fact and values. */}}
{{- define "quorate.annotations" -}}
{{- $annotations := dict -}}
{{- range $key, $value := .root.Values.additionalAnnotations -}}
{{- $_ := set $annotations $key $value -}}
{{- end -}}
{{- $_ := set $annotations "io.kubewarden.policy.severity" (.values.severity | default .fact.severity) -}}
{{- $_ := set $annotations "io.kubewarden.policy.category" (.values.category | default .fact.category) -}}
{{- toYaml $annotations -}}
{{- end -}}

{{/* One ClusterAdmissionPolicy. Takes root, name, fact, values and mutating. */}}
{{- define "quorate.policy" }}
---
apiVersion: policies.kubewarden.io/v1
kind: ClusterAdmissionPolicy
metadata:
  # Names of their own: the controller would leave the other kind of webhook behind when `mutating` changes.
  name: {{ .root.Values.namePrefix }}-{{ .name }}{{ if .mutating }}-mutating{{ end }}
  labels:
    {{- include "quorate.labels" (dict "root" .root "component" "policy" "name" .name) | nindent 4 }}
  annotations:
    {{- include "quorate.annotations" . | nindent 4 }}
spec:
  module: {{ include "quorate.module" . }}
  mutating: {{ .mutating }}
  {{- include "quorate.spec" (dict "root" .root "values" .values "audit" .fact.backgroundAudit) | nindent 2 }}
  {{- with .values.timeoutEvalSeconds | default .root.Values.timeoutEvalSeconds }}
  timeoutEvalSeconds: {{ . }}
  {{- end }}
  rules:
    {{- concat .fact.rules (.values.extraRules | default list) | toYaml | nindent 4 }}
  {{- with .fact.contextAwareResources }}
  contextAwareResources:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  settings:
    {{- include "quorate.settings" . | nindent 4 }}
{{- end -}}

{{/* The names of the policies whose modules are asked, alone or in a group, as a list in YAML. */}}
{{- define "quorate.used" -}}
{{- $used := list -}}
{{- range $name, $fact := include "quorate.facts" . | fromYaml -}}
{{- if (index $.Values.policies $name | default dict).enabled -}}
{{- $used = append $used $name -}}
{{- end -}}
{{- end -}}
{{- range .Values.groups -}}
{{- if dig "enabled" true . -}}
{{- range .members -}}
{{- $used = append $used .policy -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $used | uniq | sortAlpha | toYaml -}}
{{- end -}}
