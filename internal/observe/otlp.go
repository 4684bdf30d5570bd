package observe

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"sort"
	"strings"
	"time"

	"github.com/gustflow/gust/internal/engine"
	"github.com/gustflow/gust/internal/observe/otlpwire"
)

// OTLP says where OpenTelemetry data goes, over HTTP with protobuf.
type OTLP struct {
	// URL is the whole address, as https://collector:4318/v1/metrics.
	URL     string
	Headers map[string]string
	// Resource describes who exports; service.name is among it.
	Resource []Tag
	// Interval is between two exports of metrics. Default 60 s.
	Interval time.Duration
	// Delta sends what happened since the last export instead of since the start:
	// for processes of which there are many and that live shortly.
	Delta bool
	Names Names // of metrics
	// Client replaces the HTTP client; nil: one with a timeout of 10 s.
	Client *http.Client
	// Version of the program, for the instrumentation scope.
	Version string
}

const scopeName = "github.com/gustflow/gust"

func (o OTLP) source() otlpwire.Source {
	return otlpwire.Source{Resource: attributes(o.Resource), Name: scopeName, Version: o.Version}
}

func attributes(tags []Tag) []otlpwire.KeyValue {
	out := make([]otlpwire.KeyValue, len(tags))
	for i, t := range tags {
		out[i] = otlpwire.KeyValue{Key: t.Key, Text: t.Value}
	}
	return out
}

// errRefused is an answer that the same data would get again.
type errRefused struct{ status string }

func (e errRefused) Error() string { return "the collector answered " + e.status }

// post sends one message. An errRefused means that trying again is of no use.
func (o OTLP) post(ctx context.Context, b []byte) error {
	var body bytes.Buffer
	z := gzip.NewWriter(&body)
	if _, err := z.Write(b); err != nil {
		return err
	}
	if err := z.Close(); err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, o.URL, &body)
	if err != nil {
		return errRefused{"an address that is no URL"}
	}
	req.Header.Set("Content-Type", "application/x-protobuf")
	req.Header.Set("Content-Encoding", "gzip")
	for k, v := range o.Headers {
		req.Header.Set(k, v)
	}
	return do(o.Client, req)
}

// do sends a request and reads the answer away. Errors do not quote the URL, which
// may hold credentials.
func do(client *http.Client, req *http.Request) error {
	if client == nil {
		client = defaultClient
	}
	res, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("%s: %w", req.URL.Host, unwrapURL(err))
	}
	defer res.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(res.Body, 1<<20))
	switch {
	case res.StatusCode < 300:
		return nil
	case res.StatusCode == http.StatusTooManyRequests || res.StatusCode >= 500:
		return fmt.Errorf("%s answered %s", req.URL.Host, res.Status)
	}
	return errRefused{res.Status}
}

var defaultClient = &http.Client{Timeout: 10 * time.Second}

// bounds are OpenTelemetry's default buckets, in milliseconds.
var bounds = []float64{0, 5, 10, 25, 50, 75, 100, 250, 500, 750, 1000, 2500, 5000, 7500, 10000}

// maxSeries bounds what a process remembers.
const maxSeries = 20000

type series struct {
	kind            Kind
	name            string
	tags            []Tag
	value           float64 // sum or last value
	count           uint64
	buckets         []uint64
	lowest, highest float64
	at              time.Time
}

// otlpMetrics aggregates measurements and sends them at intervals.
type otlpMetrics struct {
	o      OTLP
	log    *slog.Logger
	now    func() time.Time
	all    map[string]*series
	order  []*series // by first use
	start  time.Time
	next   time.Time
	fresh  bool // something was measured since the last export
	failed bool
	full   bool
}

func newOTLPMetrics(o OTLP, log *slog.Logger, now func() time.Time) *otlpMetrics {
	if o.Interval <= 0 {
		o.Interval = time.Minute
	}
	return &otlpMetrics{o: o, log: log, now: now, all: map[string]*series{}, start: now(), next: now().Add(o.Interval)}
}

func (m *otlpMetrics) name() string           { return "otlp metrics" }
func (m *otlpMetrics) change(c engine.Change) { m.samples(measure(c)) }

func (m *otlpMetrics) samples(ss []Sample) {
	for _, s := range ss {
		m.o.Names.each(s, func(name string, tags []Tag) { m.add(s.Kind, name, s.Value, tags) })
	}
}

func (m *otlpMetrics) add(kind Kind, name string, value float64, tags []Tag) {
	name = name[:min(len(name), 255)]
	key := name
	for _, t := range tags {
		key += "\x00" + t.Key + "\x00" + t.Value
	}
	s := m.all[key]
	if s == nil {
		if len(m.order) >= maxSeries {
			if !m.full {
				m.full = true
				m.log.Warn("too many different metrics: new ones are not exported; see [metrics] metrics_block_list and legacy_names_on", "limit", maxSeries)
			}
			return
		}
		s = &series{kind: kind, name: name, tags: tags}
		if kind == Timer {
			s.buckets = make([]uint64, len(bounds)+1)
		}
		m.all[key] = s
		m.order = append(m.order, s)
	}
	m.fresh = true
	s.at = m.now()
	switch kind {
	case Gauge:
		s.value = value
	case Counter:
		s.value += value
	case Timer:
		if s.count == 0 || value < s.lowest {
			s.lowest = value
		}
		if s.count == 0 || value > s.highest {
			s.highest = value
		}
		s.value += value
		s.count++
		s.buckets[sort.SearchFloat64s(bounds, value)]++
	}
}

func (m *otlpMetrics) idle(ctx context.Context) {
	if now := m.now(); !now.Before(m.next) {
		m.next = now.Add(m.o.Interval)
		m.flush(ctx)
	}
}

func (m *otlpMetrics) flush(ctx context.Context) {
	if !m.fresh {
		return
	}
	err := m.o.post(ctx, m.data())
	if err != nil {
		// Sums go on; a refused export is as lost as one that never arrives.
		if !m.failed {
			m.failed = true
			m.log.Warn("metrics not exported", "exporter", m.name(), "err", err)
		}
		if _, refused := err.(errRefused); !refused {
			return
		}
	} else {
		m.failed = false
	}
	m.fresh = false
	if m.o.Delta {
		m.all, m.order, m.start = map[string]*series{}, nil, m.now()
	}
}

func (m *otlpMetrics) close() {}

// data is ExportMetricsServiceRequest, which has the form of MetricsData on the wire.
func (m *otlpMetrics) data() []byte {
	start, now := uint64(m.start.UnixNano()), uint64(m.now().UnixNano())
	byName := map[string]int{}
	var metrics []otlpwire.Metric
	for _, s := range m.order {
		id := string('0'+rune(s.kind)) + s.name
		at, ok := byName[id]
		if !ok {
			at = len(metrics)
			byName[id] = at
			x := otlpwire.Metric{Name: s.name, Kind: otlpwire.Gauge, Delta: m.o.Delta}
			switch s.kind {
			case Counter:
				x.Kind = otlpwire.Sum
			case Timer:
				x.Kind, x.Unit = otlpwire.Histogram, "ms"
			}
			metrics = append(metrics, x)
		}
		p := otlpwire.Point{Attributes: attributes(s.tags), Start: start, Time: now}
		switch s.kind {
		case Counter:
			p.Int = int64(s.value)
		case Gauge:
			p.Start, p.Time, p.Value = 0, uint64(s.at.UnixNano()), s.value
		case Timer:
			p.Count, p.Sum, p.Min, p.Max, p.Buckets, p.Bounds = s.count, s.value, s.lowest, s.highest, s.buckets, bounds
		}
		metrics[at].Points = append(metrics[at].Points, p)
	}
	return otlpwire.Metrics(m.o.source(), metrics)
}

func unwrapURL(err error) error {
	type wrapped interface{ Unwrap() error }
	for {
		if !strings.Contains(err.Error(), "://") {
			return err
		}
		w, ok := err.(wrapped)
		if !ok {
			return fmt.Errorf("cannot be reached (%T)", err)
		}
		err = w.Unwrap()
	}
}
