package config

import "time"

// Metrics is section [metrics].
type Metrics struct {
	// AllowList are the metrics to export, as regular expressions divided by commas;
	// empty for all. Default (empty).
	AllowList []string `key:"metrics_allow_list" default:"" kind:"patterns"`
	// BlockList are the metrics not to export, as regular expressions divided by commas;
	// not looked at with an allow list. Default (empty).
	BlockList []string `key:"metrics_block_list" default:"" kind:"patterns"`
	// LegacyNamesOn exports Airflow's names with dag_id, task_id … in them too; without,
	// StatsD can tell DAGs apart by tags only. Default True.
	LegacyNamesOn bool `key:"legacy_names_on" default:"True"`
	// StatsdOn sends metrics to StatsD. Default False.
	StatsdOn bool `key:"statsd_on" default:"False"`
	// StatsdHost is the host of the StatsD server. Default localhost.
	StatsdHost string `key:"statsd_host" default:"localhost"`
	// StatsdPort is the UDP port of the StatsD server. Default 8125.
	StatsdPort int `key:"statsd_port" default:"8125" min:"1" max:"65535"`
	// StatsdPrefix goes before the names of metrics. Default airflow.
	StatsdPrefix string `key:"statsd_prefix" default:"airflow"`
	// StatsdIPv6 looks the host up as an IPv6 address. Default False.
	StatsdIPv6 bool `key:"statsd_ipv6" default:"False"`
	// StatsdDatadogEnabled writes tags as Datadog does. Default False.
	StatsdDatadogEnabled bool `key:"statsd_datadog_enabled" default:"False"`
	// StatsdDatadogTags are added to every metric for Datadog: key1:value1,key2:value2.
	// Default (empty).
	StatsdDatadogTags []string `key:"statsd_datadog_tags" default:""`
	// StatsdDatadogMetricsTags writes the metrics' own tags for Datadog. Default True.
	StatsdDatadogMetricsTags bool `key:"statsd_datadog_metrics_tags" default:"True"`
	// StatsdInfluxDBEnabled writes tags as InfluxDB does. Default False.
	StatsdInfluxDBEnabled bool `key:"statsd_influxdb_enabled" default:"False"`
	// StatsdDisabledTags are prefixes of tags that are not written, divided by commas.
	// Default job_id,run_id.
	StatsdDisabledTags []string `key:"statsd_disabled_tags" default:"job_id,run_id"`
	// OtelOn sends metrics to an OpenTelemetry collector, over HTTP. Default False.
	OtelOn bool `key:"otel_on" default:"False"`
	// OtelHost is the collector's host; empty for OTEL_EXPORTER_OTLP_ENDPOINT, or
	// localhost. Default (empty).
	OtelHost string `key:"otel_host" default:""`
	// OtelPort is the collector's port for OTLP over HTTP. Airflow's default is 8889.
	// Default 4318.
	OtelPort int `key:"otel_port" default:"4318" min:"1" max:"65535"`
	// OtelPrefix goes before the names of metrics. Default airflow.
	OtelPrefix string `key:"otel_prefix" default:"airflow"`
	// OtelIntervalMilliseconds is between two exports. Default 60000.
	OtelIntervalMilliseconds int `key:"otel_interval_milliseconds" default:"60000" min:"100"`
	// OtelService is service.name, unless OTEL_SERVICE_NAME says so. Default Airflow.
	OtelService string `key:"otel_service" default:"Airflow"`
	// OtelSSLActive uses https. Default False.
	OtelSSLActive bool `key:"otel_ssl_active" default:"False"`
}

// Traces is section [traces].
type Traces struct {
	// OtelOn sends a trace of every run to an OpenTelemetry collector, over HTTP.
	// Default False.
	OtelOn bool `key:"otel_on" default:"False"`
	// OtelHost is the collector's host; empty for OTEL_EXPORTER_OTLP_ENDPOINT, or
	// localhost. Default (empty).
	OtelHost string `key:"otel_host" default:""`
	// OtelPort is the collector's port for OTLP over HTTP. Airflow's default is 8889.
	// Default 4318.
	OtelPort int `key:"otel_port" default:"4318" min:"1" max:"65535"`
	// OtelService is service.name, unless OTEL_SERVICE_NAME says so. Default Airflow.
	OtelService string `key:"otel_service" default:"Airflow"`
	// OtelSSLActive uses https. Default False.
	OtelSSLActive bool `key:"otel_ssl_active" default:"False"`
}

// OpenLineage is section [openlineage] of Airflow's OpenLineage provider.
type OpenLineage struct {
	// Disabled sends no events, whatever the rest says. Default False.
	Disabled bool `key:"disabled" default:"False"`
	// Transport says where events go, as JSON: {"type": "http", "url": …, "endpoint":
	// "api/v1/lineage", "auth": {"type": "api_key", "apiKey": …}, "timeout": 5,
	// "compression": "gzip", "custom_headers": {}}, {"type": "file", "log_file_path": …,
	// "append": true}, or {"type": "noop"}; empty for OPENLINEAGE_URL, or no events.
	// Default (empty).
	Transport string `key:"transport" default:"" kind:"json" sensitive:"true"`
	// Namespace is that of all jobs; empty for OPENLINEAGE_NAMESPACE, or default.
	// Default (empty).
	Namespace string `key:"namespace" default:""`
	// DisabledForOperators are operators without events, divided by semicolons.
	// Default (empty).
	DisabledForOperators string `key:"disabled_for_operators" default:""`
}

// Interval is OtelIntervalMilliseconds.
func (m Metrics) Interval() time.Duration {
	return time.Duration(m.OtelIntervalMilliseconds) * time.Millisecond
}
