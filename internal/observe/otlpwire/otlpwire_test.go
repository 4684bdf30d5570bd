package otlpwire_test

import (
	"math"
	"testing"

	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	metricspb "go.opentelemetry.io/proto/otlp/metrics/v1"
	resourcepb "go.opentelemetry.io/proto/otlp/resource/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/gustflow/gust/internal/observe/otlpwire"
)

// same decodes b with the generated code and compares it with want.
func same(t *rapid.T, b []byte, got, want proto.Message) {
	t.Helper()
	if err := (proto.UnmarshalOptions{}).Unmarshal(b, got); err != nil {
		t.Fatalf("the generated code does not read it: %v", err)
	}
	if len(got.ProtoReflect().GetUnknown()) > 0 || !proto.Equal(got, want) {
		t.Fatalf("got  %s\nwant %s", prototext.Format(got), prototext.Format(want))
	}
}

var (
	number = rapid.OneOf(rapid.Just(0.0), rapid.Float64Range(-1e9, 1e9), rapid.Just(math.MaxFloat64))
	nanos  = rapid.OneOf(rapid.Just(uint64(0)), rapid.Uint64())
)

func keyValues(t *rapid.T) (ours []otlpwire.KeyValue, theirs []*commonpb.KeyValue) {
	for range rapid.IntRange(0, 3).Draw(t, "attributes") {
		kv := otlpwire.KeyValue{Key: rapid.String().Draw(t, "key"), Number: rapid.Bool().Draw(t, "number")}
		v := &commonpb.AnyValue{}
		if kv.Number {
			kv.Int = rapid.Int64().Draw(t, "int")
			v.Value = &commonpb.AnyValue_IntValue{IntValue: kv.Int}
		} else {
			kv.Text = rapid.String().Draw(t, "text")
			v.Value = &commonpb.AnyValue_StringValue{StringValue: kv.Text}
		}
		ours, theirs = append(ours, kv), append(theirs, &commonpb.KeyValue{Key: kv.Key, Value: v})
	}
	return ours, theirs
}

func source(t *rapid.T) (otlpwire.Source, *resourcepb.Resource, *commonpb.InstrumentationScope) {
	ours, theirs := keyValues(t)
	s := otlpwire.Source{Resource: ours, Name: rapid.String().Draw(t, "scope"), Version: rapid.String().Draw(t, "version")}
	return s, &resourcepb.Resource{Attributes: theirs}, &commonpb.InstrumentationScope{Name: s.Name, Version: s.Version}
}

func TestTraces(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, resource, scope := source(t)
		in := &tracepb.ScopeSpans{Scope: scope}
		var spans []otlpwire.Span
		for range rapid.IntRange(0, 3).Draw(t, "spans") {
			ours, theirs := keyValues(t)
			id := func(n int) []byte { return rapid.SliceOfN(rapid.Byte(), n, n).Draw(t, "id") }
			sp := otlpwire.Span{
				TraceID: id(16), SpanID: id(8), Name: rapid.String().Draw(t, "name"), Start: nanos.Draw(t, "start"), End: nanos.Draw(t, "end"),
				Attributes: ours, Failed: rapid.Bool().Draw(t, "failed"),
			}
			if rapid.Bool().Draw(t, "below another") {
				sp.ParentSpanID = id(8)
			}
			code := tracepb.Status_STATUS_CODE_OK
			if sp.Failed {
				code = tracepb.Status_STATUS_CODE_ERROR
			}
			spans = append(spans, sp)
			in.Spans = append(in.Spans, &tracepb.Span{
				TraceId: sp.TraceID, SpanId: sp.SpanID, ParentSpanId: sp.ParentSpanID, Name: sp.Name, Kind: tracepb.Span_SPAN_KIND_INTERNAL, Flags: 1,
				StartTimeUnixNano: sp.Start, EndTimeUnixNano: sp.End, Attributes: theirs, Status: &tracepb.Status{Code: code},
			})
		}
		want := &tracepb.TracesData{ResourceSpans: []*tracepb.ResourceSpans{{Resource: resource, ScopeSpans: []*tracepb.ScopeSpans{in}}}}
		same(t, otlpwire.Traces(s, spans), &tracepb.TracesData{}, want)
	})
}

func TestMetrics(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, resource, scope := source(t)
		in := &metricspb.ScopeMetrics{Scope: scope}
		var metrics []otlpwire.Metric
		for range rapid.IntRange(0, 3).Draw(t, "metrics") {
			m := otlpwire.Metric{Name: rapid.String().Draw(t, "name"), Unit: rapid.SampledFrom([]string{"", "ms"}).Draw(t, "unit"), Kind: rapid.SampledFrom([]otlpwire.Kind{otlpwire.Gauge, otlpwire.Sum, otlpwire.Histogram}).Draw(t, "kind"), Delta: rapid.Bool().Draw(t, "delta")}
			temporality := metricspb.AggregationTemporality_AGGREGATION_TEMPORALITY_CUMULATIVE
			if m.Delta {
				temporality = metricspb.AggregationTemporality_AGGREGATION_TEMPORALITY_DELTA
			}
			var numbers []*metricspb.NumberDataPoint
			var histograms []*metricspb.HistogramDataPoint
			for range rapid.IntRange(0, 3).Draw(t, "points") {
				ours, theirs := keyValues(t)
				p := otlpwire.Point{Attributes: ours, Start: nanos.Draw(t, "start"), Time: nanos.Draw(t, "time")}
				switch m.Kind {
				case otlpwire.Gauge:
					p.Value = number.Draw(t, "value")
					numbers = append(numbers, &metricspb.NumberDataPoint{Attributes: theirs, StartTimeUnixNano: p.Start, TimeUnixNano: p.Time, Value: &metricspb.NumberDataPoint_AsDouble{AsDouble: p.Value}})
				case otlpwire.Sum:
					p.Int = rapid.Int64().Draw(t, "value")
					numbers = append(numbers, &metricspb.NumberDataPoint{Attributes: theirs, StartTimeUnixNano: p.Start, TimeUnixNano: p.Time, Value: &metricspb.NumberDataPoint_AsInt{AsInt: p.Int}})
				case otlpwire.Histogram:
					p.Count, p.Sum, p.Min, p.Max = rapid.Uint64().Draw(t, "count"), number.Draw(t, "sum"), number.Draw(t, "min"), number.Draw(t, "max")
					p.Buckets, p.Bounds = rapid.SliceOfN(rapid.Uint64(), 0, 4).Draw(t, "buckets"), rapid.SliceOfN(number, 0, 3).Draw(t, "bounds")
					histograms = append(histograms, &metricspb.HistogramDataPoint{
						Attributes: theirs, StartTimeUnixNano: p.Start, TimeUnixNano: p.Time, Count: p.Count, Sum: &p.Sum, Min: &p.Min, Max: &p.Max, BucketCounts: p.Buckets, ExplicitBounds: p.Bounds,
					})
				}
				m.Points = append(m.Points, p)
			}
			want := &metricspb.Metric{Name: m.Name, Unit: m.Unit}
			switch m.Kind {
			case otlpwire.Gauge:
				want.Data = &metricspb.Metric_Gauge{Gauge: &metricspb.Gauge{DataPoints: numbers}}
			case otlpwire.Sum:
				want.Data = &metricspb.Metric_Sum{Sum: &metricspb.Sum{DataPoints: numbers, IsMonotonic: true, AggregationTemporality: temporality}}
			case otlpwire.Histogram:
				want.Data = &metricspb.Metric_Histogram{Histogram: &metricspb.Histogram{DataPoints: histograms, AggregationTemporality: temporality}}
			}
			metrics, in.Metrics = append(metrics, m), append(in.Metrics, want)
		}
		want := &metricspb.MetricsData{ResourceMetrics: []*metricspb.ResourceMetrics{{Resource: resource, ScopeMetrics: []*metricspb.ScopeMetrics{in}}}}
		same(t, otlpwire.Metrics(s, metrics), &metricspb.MetricsData{}, want)
	})
}
