{{/* Names, labels and images: what every object needs. */}}

{{- define "gluster-csi.name" -}}
{{ .Values.nameOverride | default .Chart.Name }}
{{- end }}

{{/* Of a part: list $ "controller" */}}
{{- define "gluster-csi.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ include "gluster-csi.name" $root }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{- define "gluster-csi.labels" -}}
{{- $root := index . 0 -}}
{{ include "gluster-csi.selector" . }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
{{- end }}

{{/* list $ .Values.image */}}
{{- define "gluster-csi.image" -}}
{{- $root := index . 0 -}}
{{- $image := index . 1 -}}
{{- with $root.Values.registryPrefix | default $image.registry }}{{ trimSuffix "/" . }}/{{ end -}}
{{ $image.repository }}
{{- if $image.digest }}@{{ $image.digest }}{{ else }}:{{ $image.tag | default $root.Chart.AppVersion }}{{ end }}
{{- end }}

{{/* Where a pod goes, and how its images come: list $ .Values.node */}}
{{- define "gluster-csi.scheduling" -}}
{{- $root := index . 0 -}}
{{- $part := index . 1 -}}
# Variables named after services would look like settings.
enableServiceLinks: false
{{- with $part.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with $part.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $part.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $part.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* A container that needs no rights at all. */}}
{{- define "gluster-csi.confined" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{/* A setting's value as the program reads it: whole numbers without a fraction. */}}
{{- define "gluster-csi.value" -}}
{{- if and (kindIs "float64" .) (eq (floor .) .) }}{{ int64 . }}{{ else }}{{ . }}{{ end }}
{{- end }}

{{/* The settings of a part as variables: list $ (dict "ssh" (dict "port" 22)). What .Values.settings says wins. */}}
{{- define "gluster-csi.settings" -}}
{{- $root := index . 0 -}}
{{- $tables := dict "log" (deepCopy $root.Values.log) -}}
{{- $tables = mustMergeOverwrite $tables (deepCopy (index . 1)) (deepCopy $root.Values.settings) -}}
- name: GLUSTER_CSI_DRIVER_NAME
  value: {{ $root.Values.driverName }}
- name: GLUSTER_CSI_INSTANCE
  value: {{ $root.Values.instance }}
{{- range $table, $settings := $tables }}
{{- range $name, $value := $settings }}
- name: GLUSTER_CSI_{{ upper $table }}__{{ upper $name }}
  value: {{ include "gluster-csi.value" $value | quote }}
{{- end }}
{{- end }}
{{- end }}

{{/* Probes by gRPC health: list "serving" initial */}}
{{- define "gluster-csi.probes" -}}
# Liveness asks whether the event loop turns, nothing else: a restart heals neither a pool nor an API server.
livenessProbe:
  grpc:
    port: 9081
  periodSeconds: 20
  timeoutSeconds: 5
  failureThreshold: 5
readinessProbe:
  grpc:
    port: 9081
    service: {{ . }}
  periodSeconds: 5
  timeoutSeconds: 5
{{- end }}

{{/* "yes" if csi-snapshotter is to run: as the value says, or where the cluster has what it works on. */}}
{{- define "gluster-csi.snapshots" -}}
{{- $wanted := toString .Values.snapshotter.enabled -}}
{{- if or (eq $wanted "true") (and (eq $wanted "auto") (.Capabilities.APIVersions.Has "snapshot.storage.k8s.io/v1")) -}}
yes
{{- end -}}
{{- end -}}

{{/* The same of groups of snapshots. */}}
{{- define "gluster-csi.group-snapshots" -}}
{{- $wanted := toString .Values.snapshotter.groups -}}
{{- $has := false -}}
{{- range list "v1" "v1beta2" "v1beta1" -}}
{{- $has = or $has ($.Capabilities.APIVersions.Has (printf "groupsnapshot.storage.k8s.io/%s" .)) -}}
{{- end -}}
{{- if and (include "gluster-csi.snapshots" .) (or (eq $wanted "true") (and (eq $wanted "auto") $has)) -}}
yes
{{- end -}}
{{- end -}}
