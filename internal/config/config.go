// Package config is the one place where settings come from: defaults, then
// gust.cfg (or airflow.cfg) of the home, then environment variables.
//
//	AIRFLOW__SECTION__KEY        the value
//	AIRFLOW__SECTION__KEY_CMD    a command whose output is the value
//	AIRFLOW__SECTION__KEY_SECRET a name in the secrets backend
//	GUST__SECTION__KEY           the same as AIRFLOW__SECTION__KEY, and before it
//	GUST_<KEY>                   a key of section [gust]
//
// All problems are reported together, each with the file and line or the
// variable it came from. Settings of Airflow that Gust has no use for are
// accepted and listed by Ignored.
package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/gustflow/gust/internal/airflow"
)

// Input is where Load reads from. Only Home is required.
type Input struct {
	Home string
	// Environ are the environment variables, as os.Environ returns them.
	Environ []string
	// RunCommand runs a …_CMD; the default is a shell.
	RunCommand func(command string) (string, error)
	// ReadFile reads a file; the default is os.ReadFile.
	ReadFile func(path string) ([]byte, error)
}

// FileNames are the files of the home that are read; the first that exists counts.
var FileNames = []string{"gust.cfg", "airflow.cfg"}

// setting is one field of Config.
type setting struct {
	section, key string
	value        string // as text, after expansion
	def          string
	source       string
	sensitive    bool
	field        reflect.Value
	tag          reflect.StructTag
}

// Ignored is a setting that was given and has no effect.
type Ignored struct {
	Section string `json:"section"`
	Key     string `json:"key"`
	Source  string `json:"source"`
	Reason  string `json:"reason"`
}

// candidate is a value that was given for a setting.
type candidate struct {
	text, file string
	line       int
	env        string
	kind       string // "", "cmd" or "secret"
	rank       int    // the smallest counts
}

func (c candidate) source() string {
	if c.env != "" {
		return "environment variable " + c.env
	}
	return fmt.Sprintf("%s:%d", c.file, c.line)
}

// problem returns the candidate's place with a message.
func (c candidate) problem(field, format string, args ...any) airflow.Problem {
	p := airflow.Problem{File: c.file, Line: c.line, Field: field, Message: fmt.Sprintf(format, args...)}
	if c.env != "" {
		p.Field = c.env
	}
	return p
}

type name struct{ section, key string }

func (n name) String() string { return "[" + n.section + "] " + n.key }

// Load reads the configuration. The error is an airflow.InvalidError with every
// problem; it never quotes the value of a secret setting.
func Load(in Input) (*Config, error) {
	if in.ReadFile == nil {
		in.ReadFile = os.ReadFile
	}
	if in.RunCommand == nil {
		in.RunCommand = runShell
	}
	env := map[string]string{}
	for _, kv := range in.Environ {
		k, v, _ := strings.Cut(kv, "=")
		env[k] = v
	}
	home := in.Home
	if abs, err := filepath.Abs(home); err == nil {
		home = abs
	}
	l := &loader{in: in, env: env, home: home, c: &Config{Home: home}, byName: map[name]*setting{}, given: map[name][]candidate{}}
	l.collect()
	l.readFile()
	l.readEnv()
	l.resolve()
	l.check()
	if len(l.problems) > 0 {
		return nil, &airflow.InvalidError{Problems: l.problems}
	}
	return l.c, nil
}

func runShell(command string) (string, error) {
	out, err := exec.Command("/bin/sh", "-c", command).Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) && len(exit.Stderr) > 0 {
			return "", fmt.Errorf("%w: %s", err, strings.TrimSpace(string(exit.Stderr)))
		}
		return "", err
	}
	return strings.TrimRight(string(out), "\r\n"), nil
}

type loader struct {
	in       Input
	env      map[string]string
	home     string
	c        *Config
	byName   map[name]*setting
	given    map[name][]candidate
	problems []airflow.Problem
}

// collect makes a setting of every field.
func (l *loader) collect() {
	v := reflect.ValueOf(l.c).Elem()
	for i := range v.NumField() {
		section := v.Type().Field(i).Tag.Get("section")
		if section == "" {
			continue
		}
		s := v.Field(i)
		for j := range s.NumField() {
			f := s.Type().Field(j)
			l.c.settings = append(l.c.settings, setting{
				section: section, key: f.Tag.Get("key"), def: strings.ReplaceAll(f.Tag.Get("default"), "{home}", l.home),
				source: "default", sensitive: f.Tag.Get("sensitive") == "true", field: s.Field(j), tag: f.Tag,
			})
		}
	}
	sort.Slice(l.c.settings, func(i, j int) bool {
		a, b := l.c.settings[i], l.c.settings[j]
		if a.section != b.section {
			return a.section < b.section
		}
		return a.key < b.key
	})
	for i := range l.c.settings {
		s := &l.c.settings[i]
		l.byName[name{s.section, s.key}] = s
	}
}

// give records a value. Names that are no setting are kept as ignored, or are
// problems where Airflow has no such section.
func (l *loader) give(section, key string, c candidate) {
	section, key = strings.ToLower(section), strings.ToLower(key)
	n := name{section, key}
	if l.byName[n] == nil {
		for _, kind := range []string{"cmd", "secret"} {
			if base, ok := strings.CutSuffix(key, "_"+kind); ok && l.byName[name{section, base}] != nil {
				n.key = base
				c.kind = kind
				if kind == "cmd" {
					c.rank++
				} else {
					c.rank += 2
				}
			}
		}
	}
	if l.byName[n] != nil {
		l.given[n] = append(l.given[n], c)
		return
	}
	if section == "gust" {
		l.problems = append(l.problems, c.problem(n.String(), "there is no such setting: expected one of %s", strings.Join(l.keys("gust"), ", ")))
		return
	}
	l.c.ignored = append(l.c.ignored, Ignored{section, key, c.source(), "Gust has no use for it"})
}

func (l *loader) keys(section string) []string {
	var out []string
	for _, s := range l.c.settings {
		if s.section == section {
			out = append(out, s.key)
		}
	}
	return out
}

const (
	rankGustEnv = 0
	rankEnv     = 10
	rankFile    = 20
)

func (l *loader) readEnv() {
	names := make([]string, 0, len(l.env))
	for k := range l.env {
		names = append(names, k)
	}
	sort.Strings(names)
	for _, k := range names {
		for prefix, rank := range map[string]int{"GUST__": rankGustEnv, "AIRFLOW__": rankEnv} {
			rest, ok := strings.CutPrefix(k, prefix)
			if !ok {
				continue
			}
			section, key, ok := strings.Cut(rest, "__")
			c := candidate{text: l.env[k], env: k, rank: rank}
			if !ok || section == "" || key == "" {
				l.problems = append(l.problems, c.problem("", "expected the form %sSECTION__KEY", prefix))
				continue
			}
			l.give(section, key, c)
		}
	}
	for _, key := range l.keys("gust") {
		for _, suffix := range []string{"", "_cmd"} {
			k := "GUST_" + strings.ToUpper(key+suffix)
			if v, ok := l.env[k]; ok {
				l.give("gust", key+suffix, candidate{text: v, env: k, rank: rankGustEnv + 5})
			}
		}
	}
}

func (l *loader) readFile() {
	paths := make([]string, 0, 3)
	for _, f := range FileNames {
		paths = append(paths, filepath.Join(l.home, f))
	}
	explicit := ""
	for _, k := range []string{"GUST_CONFIG", "AIRFLOW_CONFIG"} {
		if v := l.env[k]; v != "" {
			explicit = k
			paths = []string{v}
			break
		}
	}
	for _, p := range paths {
		b, err := l.in.ReadFile(p)
		if err != nil {
			if errors.Is(err, os.ErrNotExist) && explicit == "" {
				continue
			}
			pr := airflow.Problem{File: p, Message: fmt.Sprintf("cannot be read: %v", err)}
			if explicit != "" {
				pr.Field = explicit
			}
			l.problems = append(l.problems, pr)
			return
		}
		l.parseFile(p, string(b))
		return
	}
}

// parseFile reads INI text: sections in brackets, "key = value" or "key: value",
// comment lines with # or ;, and indented lines that continue a value.
func (l *loader) parseFile(path, text string) {
	section := ""
	type pending struct {
		key string
		c   candidate
	}
	var last *pending
	seen := map[name]int{}
	flush := func() {
		if last != nil {
			last.c.text = strings.TrimSpace(last.c.text)
			l.give(section, last.key, last.c)
			last = nil
		}
	}
	bad := func(line int, format string, args ...any) {
		l.problems = append(l.problems, airflow.Problem{File: path, Line: line, Message: fmt.Sprintf(format, args...)})
	}
	for i, raw := range strings.Split(strings.TrimPrefix(text, "\uFEFF"), "\n") {
		n := i + 1
		raw = strings.TrimRight(raw, "\r \t")
		trimmed := strings.TrimSpace(raw)
		if trimmed == "" || trimmed[0] == '#' || trimmed[0] == ';' {
			continue
		}
		if (raw[0] == ' ' || raw[0] == '\t') && last != nil {
			last.c.text += "\n" + trimmed
			continue
		}
		flush()
		if trimmed[0] == '[' {
			end := strings.IndexByte(trimmed, ']')
			if end < 2 {
				bad(n, "expected a section such as [core]")
				continue
			}
			section = strings.ToLower(strings.TrimSpace(trimmed[1:end]))
			continue
		}
		sep := strings.IndexAny(trimmed, "=:")
		if sep <= 0 {
			bad(n, "expected key = value")
			continue
		}
		key := strings.ToLower(strings.TrimSpace(trimmed[:sep]))
		if section == "" {
			bad(n, "%s is before the first section: expected a line such as [core] above it", key)
			continue
		}
		if first, dup := seen[name{section, key}]; dup {
			bad(n, "[%s] %s is set twice, first on line %d", section, key, first)
			continue
		}
		seen[name{section, key}] = n
		last = &pending{key, candidate{text: strings.TrimSpace(trimmed[sep+1:]), file: path, line: n, rank: rankFile}}
	}
	flush()
}

// resolve sets every field from the candidate that counts, or its default.
func (l *loader) resolve() {
	for i := range l.c.settings {
		s := &l.c.settings[i]
		n := name{s.section, s.key}
		cs := l.given[n]
		sort.SliceStable(cs, func(i, j int) bool { return cs[i].rank < cs[j].rank })
		c := candidate{text: s.def}
		if len(cs) > 0 {
			c = cs[0]
			s.source = c.source()
			switch c.kind {
			case "cmd":
				out, err := l.in.RunCommand(c.text)
				if err != nil {
					l.problems = append(l.problems, c.problem(n.String()+"_cmd", "the command failed: %v", err))
					continue
				}
				c.text = out
			case "secret":
				l.problems = append(l.problems, c.problem(n.String()+"_secret", "there is no secrets backend to read it from: set the value itself, or a command with _CMD"))
				continue
			}
		}
		if !s.sensitive && (s.field.Kind() == reflect.String && s.tag.Get("kind") != "regexp" && s.tag.Get("kind") != "json") {
			c.text = l.expand(c.text)
		}
		s.value = c.text
		if err := l.set(s, c.text); err != nil {
			shown := ""
			if !s.sensitive && c.text != "" {
				shown = fmt.Sprintf(" (found %q)", c.text)
			}
			l.problems = append(l.problems, c.problem(n.String(), "%v%s", err, shown))
		}
	}
}

var envRef = regexp.MustCompile(`\$(\w+|\{\w+\})`)

// expand replaces $NAME, ${NAME} and a leading ~; unknown names stay.
func (l *loader) expand(s string) string {
	s = envRef.ReplaceAllStringFunc(s, func(ref string) string {
		if v, ok := l.env[strings.Trim(ref[1:], "{}")]; ok {
			return v
		}
		return ref
	})
	if s == "~" || strings.HasPrefix(s, "~/") {
		if h := l.env["HOME"]; h != "" {
			s = h + s[1:]
		}
	}
	return s
}

var durationType = reflect.TypeFor[time.Duration]()

func (l *loader) set(s *setting, text string) error {
	f := s.field
	if f.Kind() != reflect.String {
		// Airflow allows a comment after numbers and flags.
		text, _, _ = strings.Cut(text, "#")
		text = strings.TrimSpace(text)
	}
	switch {
	case f.Type() == durationType:
		if text == "" || strings.EqualFold(text, "none") {
			if s.def != "" {
				return errors.New("expected a number of seconds")
			}
			f.SetInt(0)
			return nil
		}
		sec, err := strconv.ParseFloat(text, 64)
		if err != nil || math.IsNaN(sec) || math.Abs(sec) > 1e9 {
			return errors.New("expected a number of seconds")
		}
		if err := bounds(s, sec); err != nil {
			return err
		}
		f.SetInt(int64(sec * float64(time.Second)))
	case f.Kind() == reflect.Int:
		n, err := strconv.Atoi(text)
		if err != nil {
			return errors.New("expected a whole number")
		}
		if err := bounds(s, float64(n)); err != nil {
			return err
		}
		f.SetInt(int64(n))
	case f.Kind() == reflect.Bool:
		switch strings.ToLower(text) {
		case "t", "true", "1":
			f.SetBool(true)
		case "f", "false", "0":
			f.SetBool(false)
		default:
			return errors.New("expected True or False")
		}
	case f.Kind() == reflect.Slice:
		var list []string
		for _, e := range strings.FieldsFunc(text, func(r rune) bool {
			return r == ',' || r == '\n' || s.key == "allowed_deserialization_classes" && r == ' '
		}) {
			if e = strings.TrimSpace(e); e != "" {
				list = append(list, e)
			}
		}
		if s.tag.Get("kind") == "patterns" {
			for _, e := range list {
				if _, err := regexp.Compile(strings.ToLower(e)); err != nil {
					return fmt.Errorf("expected regular expressions divided by commas: %w", err)
				}
			}
		}
		f.Set(reflect.ValueOf(list))
	default:
		return l.setText(s, text)
	}
	return nil
}

func bounds(s *setting, v float64) error {
	lo, hi := s.tag.Get("min"), s.tag.Get("max")
	limit := func(t string, def float64) float64 {
		if t == "" {
			return def
		}
		f, err := strconv.ParseFloat(t, 64)
		if err != nil {
			panic("config: bad bound of " + s.key)
		}
		return f
	}
	if v >= limit(lo, math.Inf(-1)) && v <= limit(hi, math.Inf(1)) {
		return nil
	}
	if hi == "" {
		return fmt.Errorf("expected at least %s", lo)
	}
	return fmt.Errorf("expected %s to %s", lo, hi)
}

func (l *loader) setText(s *setting, text string) error {
	switch s.tag.Get("kind") {
	case "path":
		if text == "" {
			return errors.New("expected a folder")
		}
		abs, err := filepath.Abs(text)
		if err != nil {
			return fmt.Errorf("expected a folder: %w", err)
		}
		text = abs
	case "timezone":
		if strings.EqualFold(text, "utc") {
			text = "UTC"
		} else if strings.EqualFold(text, "system") {
			text = "Local"
		}
		if _, err := time.LoadLocation(text); err != nil || text == "" {
			return errors.New("expected an IANA time zone such as Europe/Berlin, or utc")
		}
	case "regexp":
		if _, err := regexp.Compile(text); err != nil {
			return fmt.Errorf("expected a regular expression: %w", err)
		}
	case "upper":
		text = strings.ToUpper(text)
	case "expose":
		switch strings.ToLower(text) {
		case "true", "t", "1":
			text = "True"
		case "false", "f", "0":
			text = "False"
		}
	case "json":
		if text != "" {
			var m map[string]any
			if json.Unmarshal([]byte(text), &m) != nil {
				return errors.New("expected a JSON object")
			}
		}
	case "backend":
		if text != "" {
			if !slices.Contains(secretsBackends, text) {
				return fmt.Errorf("expected one of %s; or leave it empty, and put connections and variables into AIRFLOW_CONN_… and AIRFLOW_VAR_… variables or the store", strings.Join(secretsBackends, ", "))
			}
		}
	case "logtemplate":
		if text != s.def && !isAirflowLayout(text) {
			return errors.New("only Airflow 3's layout dag_id=…/run_id=…/task_id=…/attempt=….log can be used: remove the setting")
		}
	}
	if one := s.tag.Get("oneof"); one != "" {
		// Airflow allows a class path, and aliases, for executors.
		short := text[strings.LastIndexAny(text, ".:")+1:]
		if s.key != "executor" {
			short = text
		}
		ok := false
		for _, o := range strings.Split(one, ",") {
			ok = ok || o == short
		}
		if !ok {
			return fmt.Errorf("expected one of %s", strings.ReplaceAll(one, ",", ", "))
		}
		text = short
	}
	s.value = text
	s.field.SetString(text)
	return nil
}

// isAirflowLayout recognises Airflow's own template of log file names.
func isAirflowLayout(t string) bool {
	squeezed := strings.NewReplacer(" ", "", "{{", "", "}}", "", "%%", "%").Replace(t)
	for _, part := range []string{"dag_id=ti.dag_id/", "run_id=ti.run_id/", "task_id=ti.task_id/", "attempt=try_number"} {
		if !strings.Contains(squeezed, part) {
			return false
		}
	}
	return true
}

// check looks at settings together.
func (l *loader) check() {
	if _, err := l.c.Retention(""); err != nil {
		s := l.byName[name{"gust", "retention_overrides"}]
		l.problems = append(l.problems, airflow.Problem{Field: "[gust] retention_overrides", Message: err.Error() + " (from " + s.source + ")"})
	}
	if l.c.SMTP.SSL && l.c.SMTP.StartTLS && len(l.given[name{"smtp", "smtp_starttls"}]) > 0 {
		l.problems = append(l.problems, airflow.Problem{Field: "[smtp] smtp_starttls", Message: "cannot be used with smtp_ssl: set one of the two to False"})
	}
	if l.c.SMTP.SSL {
		l.c.SMTP.StartTLS = false
	}
}

// Retention is how many days a DAG's data are kept; 0 keeps them.
type Retention struct {
	DagRuns int `json:"dag_runs"`
	Logs    int `json:"logs"`
	XComs   int `json:"xcoms"`
}

// Retention returns the retention of a DAG: the installation's, with the DAG's
// own from retention_overrides before it.
func (c *Config) Retention(dag airflow.DagID) (Retention, error) {
	r := Retention{c.Gust.DagRunRetentionDays, c.Gust.LogRetentionDays, c.Gust.XComRetentionDays}
	overrides, err := c.retentionOverrides()
	if err != nil {
		return r, err
	}
	if o, ok := overrides[dag]; ok {
		for _, f := range []struct {
			dst *int
			src *int
		}{{&r.DagRuns, o.DagRuns}, {&r.Logs, o.Logs}, {&r.XComs, o.XComs}} {
			if f.src != nil {
				*f.dst = *f.src
			}
		}
	}
	return r, nil
}

type retentionOverride struct {
	DagRuns *int `json:"dag_runs"`
	Logs    *int `json:"logs"`
	XComs   *int `json:"xcoms"`
}

// RetentionDags returns the DAGs with a retention of their own, sorted.
func (c *Config) RetentionDags() []airflow.DagID {
	overrides, err := c.retentionOverrides()
	if err != nil {
		return nil // reported by Load
	}
	var out []airflow.DagID
	for d := range overrides {
		out = append(out, d)
	}
	sort.Slice(out, func(i, j int) bool { return out[i] < out[j] })
	return out
}

func (c *Config) retentionOverrides() (map[airflow.DagID]retentionOverride, error) {
	if c.Gust.RetentionOverrides == "" {
		return nil, nil
	}
	var m map[airflow.DagID]retentionOverride
	dec := json.NewDecoder(strings.NewReader(c.Gust.RetentionOverrides))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&m); err != nil {
		return nil, errors.New(`expected {"dag_id": {"dag_runs": days, "logs": days, "xcoms": days}}`)
	}
	for d, o := range m {
		for _, n := range []*int{o.DagRuns, o.Logs, o.XComs} {
			if n != nil && *n < 0 {
				return nil, fmt.Errorf("%s: expected days of at least 0", d)
			}
		}
	}
	return m, nil
}
