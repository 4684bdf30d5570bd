package observe

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math"
	"net"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/gustflow/gust/internal/engine"
)

// Names says which measurements are exported and how they are called.
type Names struct {
	// Prefix goes before every name, with a dot.
	Prefix string
	// Allow and Block are regular expressions looked for in names in lower case,
	// without the prefix. With Allow, Block is not looked at.
	Allow, Block []*regexp.Regexp
	// Legacy exports Airflow's names with variables in them too.
	Legacy bool
}

func (n Names) allowed(name string) bool {
	name = strings.ToLower(strings.TrimSpace(name))
	list := n.Allow
	if list == nil {
		list = n.Block
	}
	if list == nil {
		return true
	}
	found := false
	for _, re := range list {
		found = found || re.MatchString(name)
	}
	return found == (n.Allow != nil)
}

// each calls f for the names under which a sample is exported.
func (n Names) each(s Sample, f func(name string, tags []Tag)) {
	if n.Legacy && s.Legacy != "" && n.allowed(s.Legacy) {
		f(n.full(s.Legacy), s.LegacyTags)
	}
	if n.allowed(s.Name) {
		f(n.full(s.Name), s.Tags)
	}
}

var notInNames = regexp.MustCompile(`[^a-zA-Z0-9_./-]`)

// full is a name that every collector takes.
func (n Names) full(name string) string {
	name = notInNames.ReplaceAllString(name, "_")
	if n.Prefix != "" {
		name = n.Prefix + "." + name
	}
	return name
}

// StatsD says where metrics go as StatsD datagrams.
type StatsD struct {
	Addr    string // host:port
	IPv6    bool
	Names   Names
	Tagging Tagging
	// Tags are added to every metric, where Tagging has a place for them.
	Tags []Tag
	// DisabledTags are prefixes of the tags that are left out.
	DisabledTags []string
}

// Tagging is how tags are written; plain StatsD has none.
type Tagging byte

// The ways of writing tags.
const (
	NoTags Tagging = iota
	InfluxDBTags
	DatadogTags
)

const (
	// maxDatagram fits an Ethernet frame with room for a tunnel.
	maxDatagram = 1400
	// maxStatsDName is what Airflow sends at most.
	maxStatsDName = 250
)

type statsd struct {
	o       StatsD
	log     *slog.Logger
	conn    net.Conn
	buf     bytes.Buffer
	retryAt time.Time // after a failure to resolve the host
	failed  bool
	long    bool
}

func newStatsD(o StatsD, log *slog.Logger) *statsd { return &statsd{o: o, log: log} }

func (s *statsd) name() string           { return "statsd" }
func (s *statsd) change(c engine.Change) { s.samples(measure(c)) }

func (s *statsd) samples(ss []Sample) {
	for _, sample := range ss {
		s.o.Names.each(sample, func(name string, tags []Tag) { s.metric(sample.Kind, name, sample.Value, tags) })
	}
}

func (s *statsd) metric(kind Kind, name string, value float64, tags []Tag) {
	name, suffix := s.tagged(name, tags)
	if len(name) > maxStatsDName && s.o.Tagging != InfluxDBTags {
		if !s.long {
			s.long = true
			s.log.Warn("a metric is not exported: its name is too long for StatsD; shorter ids, or [metrics] legacy_names_on = False", "name", name, "limit", maxStatsDName)
		}
		return
	}
	switch kind {
	case Counter:
		s.line(name + ":" + number(value) + "|c" + suffix)
	case Gauge:
		if value < 0 { // a sign would mean a difference
			s.line(name + ":0|g" + suffix)
		}
		s.line(name + ":" + number(value) + "|g" + suffix)
	case Timer:
		s.line(name + ":" + strconv.FormatFloat(value, 'f', 6, 64) + "|ms" + suffix)
	}
}

func number(v float64) string {
	if v == math.Trunc(v) && math.Abs(v) < 1e15 {
		return strconv.FormatInt(int64(v), 10)
	}
	return strconv.FormatFloat(v, 'f', -1, 64)
}

func (s *statsd) tagged(name string, tags []Tag) (string, string) {
	if s.o.Tagging == NoTags {
		return name, ""
	}
	var parts []string
next:
	for _, t := range append(append([]Tag(nil), s.o.Tags...), tags...) {
		for _, p := range s.o.DisabledTags {
			if strings.HasPrefix(t.Key, p) {
				continue next
			}
		}
		// What would end the tag, the metric or the line has no place in it.
		v := strings.Map(func(r rune) rune {
			if strings.ContainsRune(",=|#\n\r ", r) || r == ':' && s.o.Tagging == InfluxDBTags {
				return '_'
			}
			return r
		}, t.Value)
		if s.o.Tagging == InfluxDBTags {
			name += "," + t.Key + "=" + v
			continue
		}
		parts = append(parts, t.Key+":"+v)
	}
	if len(parts) == 0 {
		return name, ""
	}
	return name, "|#" + strings.Join(parts, ",")
}

// line adds a metric to the datagram.
func (s *statsd) line(l string) {
	if s.buf.Len() > 0 && s.buf.Len()+1+len(l) > maxDatagram {
		s.send()
	}
	if s.buf.Len() > 0 {
		s.buf.WriteByte('\n')
	}
	s.buf.WriteString(l)
}

func (s *statsd) send() {
	defer s.buf.Reset()
	if s.buf.Len() == 0 {
		return
	}
	if s.conn == nil {
		if time.Now().Before(s.retryAt) {
			return
		}
		network := "udp"
		if s.o.IPv6 {
			network = "udp6"
		}
		d := net.Dialer{Timeout: 5 * time.Second}
		conn, err := d.Dial(network, s.o.Addr)
		if err != nil {
			s.retryAt = time.Now().Add(30 * time.Second)
			s.warn(err)
			return
		}
		s.conn = conn
	}
	// A refused datagram shows at the next one; it is lost, as StatsD has it.
	if _, err := s.conn.Write(s.buf.Bytes()); err != nil {
		s.warn(err)
		return
	}
	s.failed = false
}

func (s *statsd) warn(err error) {
	if !s.failed {
		s.failed = true
		s.log.Warn("StatsD cannot be reached: metrics are lost until it can", "err", fmt.Errorf("%s: %w", s.o.Addr, err))
	}
}

func (s *statsd) flush(context.Context) { s.send() }
func (s *statsd) idle(context.Context)  { s.send() }

func (s *statsd) close() {
	s.send()
	if s.conn != nil {
		_ = s.conn.Close()
	}
}
