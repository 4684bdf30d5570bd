// Package otlpwire writes the messages of OpenTelemetry's protocol that Gust sends, in
// protocol buffers' binary form: what opentelemetry-proto 1.x calls TracesData and
// MetricsData. It stands in for generated code, which brings reflection: a program
// with that keeps every exported method of every type, and the scheduler function
// was 29 MB instead of 19. Tests compare it with the generated code.
package otlpwire

import (
	"encoding/binary"
	"math"
)

// message is a message under way.
type message []byte

// Kinds of values on the wire.
const (
	varint = 0
	bits64 = 1
	length = 2
)

func (m *message) tag(field, kind int) { *m = binary.AppendUvarint(*m, uint64(field)<<3|uint64(kind)) }

// Values that are zero are left out, as version 3 of the language has it, where the
// field has no presence of its own.
func (m *message) uint(field int, v uint64) {
	if v != 0 {
		m.tag(field, varint)
		*m = binary.AppendUvarint(*m, v)
	}
}

func (m *message) fixed64(field int, v uint64) {
	if v != 0 {
		m.present64(field, v)
	}
}

func (m *message) present64(field int, v uint64) {
	m.tag(field, bits64)
	*m = binary.LittleEndian.AppendUint64(*m, v)
}

func (m *message) bytes(field int, v []byte) {
	if len(v) > 0 {
		m.sub(field, v)
	}
}

func (m *message) sub(field int, v []byte) {
	m.tag(field, length)
	*m = append(binary.AppendUvarint(*m, uint64(len(v))), v...)
}

func (m *message) text(field int, v string) { m.bytes(field, []byte(v)) }

// KeyValue is an attribute: a text, or a number if Number is set.
type KeyValue struct {
	Key    string
	Text   string
	Number bool
	Int    int64
}

func (kv KeyValue) encode() message {
	var value, m message
	if kv.Number {
		value.tag(3, varint)
		value = binary.AppendUvarint(value, uint64(kv.Int))
	} else {
		value.sub(1, []byte(kv.Text))
	}
	m.text(1, kv.Key)
	m.sub(2, value)
	return m
}

func (m *message) attributes(field int, kvs []KeyValue) {
	for _, kv := range kvs {
		m.sub(field, kv.encode())
	}
}

// Source says who speaks: attributes of the resource, name and version of the scope.
type Source struct {
	Resource      []KeyValue
	Name, Version string
}

// data is TracesData or MetricsData, whose outer messages have the same numbers.
func (s Source) data(entries []message) []byte {
	var resource, scope, inScope, inResource, out message
	resource.attributes(1, s.Resource)
	scope.text(1, s.Name)
	scope.text(2, s.Version)
	inScope.sub(1, scope)
	for _, e := range entries {
		inScope.sub(2, e)
	}
	inResource.sub(1, resource)
	inResource.sub(2, inScope)
	out.sub(1, inResource)
	return out
}

// Span is one span of kind INTERNAL, sampled.
type Span struct {
	TraceID, SpanID, ParentSpanID []byte
	Name                          string
	Start, End                    uint64 // ns since 1970
	Attributes                    []KeyValue
	Failed                        bool
}

// Traces encodes TracesData.
func Traces(s Source, spans []Span) []byte {
	entries := make([]message, len(spans))
	for i, sp := range spans {
		m := &entries[i]
		m.bytes(1, sp.TraceID)
		m.bytes(2, sp.SpanID)
		m.bytes(4, sp.ParentSpanID)
		m.text(5, sp.Name)
		m.uint(6, 1) // INTERNAL
		m.fixed64(7, sp.Start)
		m.fixed64(8, sp.End)
		m.attributes(9, sp.Attributes)
		var status message
		code := uint64(1) // OK
		if sp.Failed {
			code = 2
		}
		status.uint(3, code)
		m.sub(15, status)
		m.tag(16, 5) // flags, 32 bits: sampled
		*m = binary.LittleEndian.AppendUint32(*m, 1)
	}
	return s.data(entries)
}

// Kind of a metric.
type Kind int

// The kinds.
const (
	Gauge Kind = iota
	Sum        // of integers, monotonic
	Histogram
)

// Metric is one metric with its points.
type Metric struct {
	Name, Unit string
	Kind       Kind
	Delta      bool // Sum, Histogram: since the last export, not since the start
	Points     []Point
}

// Point is a measurement of one set of attributes.
type Point struct {
	Attributes  []KeyValue
	Start, Time uint64  // ns since 1970; Start 0 is none
	Value       float64 // of a gauge
	Int         int64   // of a sum
	// Of a histogram.
	Count         uint64
	Sum, Min, Max float64
	Buckets       []uint64
	Bounds        []float64
}

// Metrics encodes MetricsData.
func Metrics(s Source, metrics []Metric) []byte {
	entries := make([]message, len(metrics))
	for i, x := range metrics {
		var data message
		for _, p := range x.Points {
			data.sub(1, p.encode(x.Kind))
		}
		temporality := uint64(2) // CUMULATIVE
		if x.Delta {
			temporality = 1
		}
		m := &entries[i]
		m.text(1, x.Name)
		m.text(3, x.Unit)
		switch x.Kind {
		case Gauge:
			m.sub(5, data)
		case Sum:
			data.uint(2, temporality)
			data.uint(3, 1) // monotonic
			m.sub(7, data)
		case Histogram:
			data.uint(2, temporality)
			m.sub(9, data)
		}
	}
	return s.data(entries)
}

func (p Point) encode(k Kind) message {
	var m message
	m.fixed64(2, p.Start)
	m.fixed64(3, p.Time)
	switch k {
	case Gauge:
		m.present64(4, math.Float64bits(p.Value))
		m.attributes(7, p.Attributes)
	case Sum:
		m.present64(6, uint64(p.Int))
		m.attributes(7, p.Attributes)
	case Histogram:
		m.fixed64(4, p.Count)
		m.present64(5, math.Float64bits(p.Sum))
		var counts, bounds message
		for _, n := range p.Buckets {
			counts = binary.LittleEndian.AppendUint64(counts, n)
		}
		for _, b := range p.Bounds {
			bounds = binary.LittleEndian.AppendUint64(bounds, math.Float64bits(b))
		}
		m.bytes(6, counts)
		m.bytes(7, bounds)
		m.attributes(9, p.Attributes)
		m.present64(11, math.Float64bits(p.Min))
		m.present64(12, math.Float64bits(p.Max))
	}
	return m
}
