package observe

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gustflow/gust/internal/config"
)

// Options say what is exported; a nil part is off.
type Options struct {
	StatsD     *StatsD
	Metrics    *OTLP
	Traces     *OTLP
	Lineage    *Lineage
	CloudWatch *CloudWatch
	Log        *slog.Logger // nil: discarded
	// Now is the clock of exports; nil: time.Now.
	Now func() time.Time
}

// New starts the exporters. It makes no network call.
func New(o Options) *Observer {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	obs := &Observer{log: o.Log}
	add := func(e exporter) { obs.pumps = append(obs.pumps, newPump(e, o.Log)) }
	if o.CloudWatch != nil {
		add(newCloudWatch(*o.CloudWatch, o.Log, o.Now))
	}
	if o.StatsD != nil {
		add(newStatsD(*o.StatsD, o.Log))
		obs.metrics = true
	}
	if o.Metrics != nil {
		add(newOTLPMetrics(*o.Metrics, o.Log, o.Now))
		obs.metrics = true
	}
	if o.Traces != nil {
		add(newOTLPTraces(*o.Traces, o.Log))
	}
	if o.Lineage != nil {
		add(newLineage(*o.Lineage, o.Log))
	}
	return obs
}

// FromConfig reads the settings of [metrics], [traces] and [openlineage], and the
// variables of OpenTelemetry and OpenLineage that Airflow reads too. Errors name
// the setting and never quote a value that may hold a credential.
func FromConfig(c *config.Config, getenv func(string) string, version string) (Options, error) {
	var o Options
	names := func(prefix string) (n Names) {
		n.Prefix, n.Legacy = prefix, c.Metrics.LegacyNamesOn
		n.Allow, n.Block = patterns(c.Metrics.AllowList), patterns(c.Metrics.BlockList)
		return n
	}
	if m := c.Metrics; m.StatsdOn {
		s := &StatsD{Addr: net.JoinHostPort(m.StatsdHost, strconv.Itoa(m.StatsdPort)), IPv6: m.StatsdIPv6, Names: names(m.StatsdPrefix), DisabledTags: m.StatsdDisabledTags}
		switch {
		case m.StatsdDatadogEnabled:
			s.Tagging = DatadogTags
			for _, t := range m.StatsdDatadogTags {
				k, v, _ := strings.Cut(t, ":")
				s.Tags = append(s.Tags, Tag{k, v})
			}
			if !m.StatsdDatadogMetricsTags {
				s.DisabledTags = []string{""} // every key begins so
			}
		case m.StatsdInfluxDBEnabled:
			s.Tagging = InfluxDBTags
		}
		o.StatsD = s
	}
	var errs []error
	if m := c.Metrics; m.OtelOn {
		x, err := otlp("METRICS", endpoint{m.OtelHost, m.OtelPort, m.OtelSSLActive}, m.OtelService, getenv, version)
		if err != nil {
			errs = append(errs, fmt.Errorf("[metrics] otel_on: %w", err))
		}
		x.Names, x.Interval = names(m.OtelPrefix), m.Interval()
		if ms, err := strconv.Atoi(getenv("OTEL_METRIC_EXPORT_INTERVAL")); err == nil && ms > 0 {
			x.Interval = time.Duration(ms) * time.Millisecond
		}
		o.Metrics = &x
	}
	if t := c.Traces; t.OtelOn {
		x, err := otlp("TRACES", endpoint{t.OtelHost, t.OtelPort, t.OtelSSLActive}, t.OtelService, getenv, version)
		if err != nil {
			errs = append(errs, fmt.Errorf("[traces] otel_on: %w", err))
		}
		o.Traces = &x
	}
	l, err := lineageOf(c, getenv, version)
	if err != nil {
		errs = append(errs, err)
	}
	o.Lineage = l
	return o, errors.Join(errs...)
}

// patterns were checked by package config.
func patterns(list []string) (out []*regexp.Regexp) {
	for _, p := range list {
		if re, err := regexp.Compile(strings.ToLower(p)); err == nil {
			out = append(out, re)
		}
	}
	return out
}

type endpoint struct {
	host string
	port int
	ssl  bool
}

// otlp finds the collector: the variables of OpenTelemetry come before the settings,
// as in Airflow.
func otlp(signal string, e endpoint, service string, getenv func(string) string, version string) (OTLP, error) {
	o := OTLP{Version: version}
	path := "/v1/" + strings.ToLower(signal)
	switch {
	case getenv("OTEL_EXPORTER_OTLP_"+signal+"_ENDPOINT") != "":
		o.URL = getenv("OTEL_EXPORTER_OTLP_" + signal + "_ENDPOINT")
	case getenv("OTEL_EXPORTER_OTLP_ENDPOINT") != "":
		o.URL = strings.TrimSuffix(getenv("OTEL_EXPORTER_OTLP_ENDPOINT"), "/") + path
	default:
		host, scheme := e.host, "http"
		if host == "" {
			host = "localhost"
		}
		if e.ssl {
			scheme = "https"
		}
		o.URL = scheme + "://" + net.JoinHostPort(host, strconv.Itoa(e.port)) + path
	}
	if u, err := url.Parse(o.URL); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return o, errors.New("the collector's address is not a URL: expected http://host:4318 or https://… in OTEL_EXPORTER_OTLP_ENDPOINT")
	}
	protocol := getenv("OTEL_EXPORTER_OTLP_" + signal + "_PROTOCOL")
	if protocol == "" {
		protocol = getenv("OTEL_EXPORTER_OTLP_PROTOCOL")
	}
	if protocol != "" && protocol != "http/protobuf" {
		return o, fmt.Errorf("OTEL_EXPORTER_OTLP_PROTOCOL is %q: Gust speaks http/protobuf only; point it at the collector's port for that (4318)", protocol)
	}
	o.Headers = map[string]string{}
	maps.Copy(o.Headers, pairs(getenv("OTEL_EXPORTER_OTLP_HEADERS")))
	maps.Copy(o.Headers, pairs(getenv("OTEL_EXPORTER_OTLP_"+signal+"_HEADERS")))
	resource := pairs(getenv("OTEL_RESOURCE_ATTRIBUTES"))
	if s := getenv("OTEL_SERVICE_NAME"); s != "" {
		service = s
	} else if s := resource["service.name"]; s != "" {
		service = s
	}
	delete(resource, "service.name")
	o.Resource = append(o.Resource, Tag{"service.name", service}, Tag{"telemetry.sdk.language", "go"}, Tag{"telemetry.sdk.name", "gust"}, Tag{"telemetry.sdk.version", version})
	for _, k := range slices.Sorted(maps.Keys(resource)) {
		o.Resource = append(o.Resource, Tag{k, resource[k]})
	}
	return o, nil
}

// pairs reads key=value,… with values escaped as in URLs.
func pairs(text string) map[string]string {
	out := map[string]string{}
	for _, p := range strings.Split(text, ",") {
		k, v, ok := strings.Cut(p, "=")
		if k = strings.TrimSpace(k); !ok || k == "" {
			continue
		}
		v = strings.TrimSpace(v)
		if plain, err := url.PathUnescape(v); err == nil {
			v = plain
		}
		out[k] = v
	}
	return out
}

// transport is [openlineage] transport.
type transport struct {
	Type     string `json:"type"`
	URL      string `json:"url"`
	Endpoint string `json:"endpoint"`
	Auth     *struct {
		Type    string `json:"type"`
		APIKey  string `json:"apiKey"`
		APIKey2 string `json:"api_key"`
	} `json:"auth"`
	Timeout       float64           `json:"timeout"`
	Compression   string            `json:"compression"`
	CustomHeaders map[string]string `json:"custom_headers"`
	Retry         *struct {
		Total *int `json:"total"`
	} `json:"retry"`
	LogFilePath string `json:"log_file_path"`
	Append      bool   `json:"append"`
}

func lineageOf(c *config.Config, getenv func(string) string, version string) (*Lineage, error) {
	s := c.OpenLineage
	text, what := s.Transport, "[openlineage] transport"
	if s.Disabled || isTrue(getenv("OPENLINEAGE_DISABLED")) {
		return nil, nil
	}
	t := transport{Type: "http"}
	switch {
	case strings.TrimSpace(text) != "":
		t.Type = ""
		if err := json.Unmarshal([]byte(text), &t); err != nil {
			return nil, fmt.Errorf("%s: expected an object such as {\"type\": \"http\", \"url\": \"http://…\"}, with the types of fields as in OpenLineage's documentation", what)
		}
	case getenv("OPENLINEAGE_URL") != "":
		what = "OPENLINEAGE_URL"
		t.URL, t.Endpoint = getenv("OPENLINEAGE_URL"), getenv("OPENLINEAGE_ENDPOINT")
		if k := getenv("OPENLINEAGE_API_KEY"); k != "" {
			t.CustomHeaders = map[string]string{"Authorization": "Bearer " + k}
		}
	default:
		return nil, nil
	}
	l := &Lineage{Namespace: s.Namespace, Version: version, Timeout: time.Duration(t.Timeout * float64(time.Second)), Headers: map[string]string{}}
	if l.Namespace == "" {
		l.Namespace = getenv("OPENLINEAGE_NAMESPACE")
	}
	for _, d := range strings.Split(s.DisabledForOperators, ";") {
		if d = strings.TrimSpace(d); d != "" {
			l.DisabledFor = append(l.DisabledFor, d)
		}
	}
	switch t.Type {
	case "noop":
		return nil, nil
	case "http":
		u, err := url.Parse(t.URL)
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			return nil, fmt.Errorf("%s: url is not one: expected http://host:port or https://…", what)
		}
		if t.Endpoint == "" {
			t.Endpoint = "api/v1/lineage"
		}
		l.URL = strings.TrimSuffix(t.URL, "/") + "/" + strings.TrimPrefix(t.Endpoint, "/")
		if t.Compression != "" && t.Compression != "gzip" {
			return nil, fmt.Errorf("%s: compression is %q: expected gzip, or nothing", what, t.Compression)
		}
		l.Compress = t.Compression == "gzip"
		if t.Retry != nil && t.Retry.Total != nil {
			l.Tries = *t.Retry.Total + 1
		}
		maps.Copy(l.Headers, t.CustomHeaders)
		if t.Auth != nil {
			key := t.Auth.APIKey + t.Auth.APIKey2
			if t.Auth.Type != "api_key" || key == "" {
				return nil, fmt.Errorf("%s: auth of type %q: expected {\"type\": \"api_key\", \"apiKey\": …}; other kinds are not supported", what, t.Auth.Type)
			}
			l.Headers["Authorization"] = "Bearer " + key
		}
	case "file":
		if t.LogFilePath == "" || strings.Contains(t.LogFilePath, "://") {
			return nil, fmt.Errorf("%s: expected log_file_path, the path of a file on this machine", what)
		}
		abs, err := filepath.Abs(t.LogFilePath)
		if err != nil {
			return nil, fmt.Errorf("%s: log_file_path: %w", what, err)
		}
		l.File, l.Append = abs, t.Append
	default:
		return nil, fmt.Errorf("%s: type is %q: expected http, file or noop (kafka, composite and others are not supported)", what, t.Type)
	}
	return l, nil
}

func isTrue(s string) bool {
	switch strings.ToLower(strings.TrimSpace(s)) {
	case "true", "1", "t":
		return true
	}
	return false
}
