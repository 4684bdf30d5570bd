package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"github.com/gustflow/gust/internal/airflow"
)

// col is a column of a table of T.
type col[T any] struct {
	name string
	text func(T) string
}

// render prints rows in the chosen format: a table or plain text of the columns,
// or the values themselves as JSON or YAML.
func render[T any](c *command, rows []T, cols []col[T]) error {
	if rows == nil {
		rows = []T{}
	}
	switch c.output {
	case "json":
		return writeJSON(c.env.Stdout, rows)
	case "yaml":
		return writeYAML(c.env.Stdout, rows)
	}
	cells := make([][]string, len(rows))
	for i, r := range rows {
		for _, col := range cols {
			cells[i] = append(cells[i], col.text(r))
		}
	}
	var head []string
	for _, col := range cols {
		head = append(head, col.name)
	}
	if c.output == "plain" {
		return c.plain(head, cells)
	}
	return c.table(head, cells)
}

// one prints a single value: all of it as JSON or YAML, its fields otherwise.
func one[T any](c *command, v T, cols []col[T]) error {
	switch c.output {
	case "json":
		return writeJSON(c.env.Stdout, v)
	case "yaml":
		return writeYAML(c.env.Stdout, v)
	}
	var cells [][]string
	for _, col := range cols {
		cells = append(cells, []string{col.name, col.text(v)})
	}
	if c.output == "plain" {
		return c.plain([]string{"property_name", "property_value"}, cells)
	}
	return c.table([]string{"property_name", "property_value"}, cells)
}

func writeJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false) // no web page: & stays &
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// writeYAML prints the JSON form as YAML, so that names and shapes are the same.
func writeYAML(w io.Writer, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	var tree any
	dec := json.NewDecoder(strings.NewReader(string(b)))
	dec.UseNumber()
	if err := dec.Decode(&tree); err != nil {
		return err
	}
	enc := yaml.NewEncoder(w)
	enc.SetIndent(2)
	if err := enc.Encode(plainNumbers(tree)); err != nil {
		return err
	}
	return enc.Close()
}

// plainNumbers turns json.Numbers into numbers, which YAML would quote.
func plainNumbers(v any) any {
	switch v := v.(type) {
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return n
		}
		f, _ := v.Float64()
		return f
	case map[string]any:
		for k := range v {
			v[k] = plainNumbers(v[k])
		}
	case []any:
		for i := range v {
			v[i] = plainNumbers(v[i])
		}
	}
	return v
}

// plain prints aligned columns without rules or colours.
func (c *command) plain(head []string, rows [][]string) error {
	widths := columnWidths(head, rows)
	for _, r := range append([][]string{head}, rows...) {
		var b strings.Builder
		for i, cell := range r {
			b.WriteString(pad(oneLine(cell), widths[i]))
			if i < len(r)-1 {
				b.WriteByte(' ')
			}
		}
		if _, err := fmt.Fprintln(c.env.Stdout, strings.TrimRight(b.String(), " ")); err != nil {
			return err
		}
	}
	return nil
}

// table prints Airflow's kind of table: columns divided by bars, a rule below
// the head, states coloured on a terminal.
func (c *command) table(head []string, rows [][]string) error {
	if len(rows) == 0 {
		_, err := fmt.Fprintln(c.env.Stdout, "No data found")
		return err
	}
	widths := columnWidths(head, rows)
	line := func(cells []string, colors bool) string {
		parts := make([]string, len(cells))
		for i, cell := range cells {
			cell = oneLine(cell)
			padded := pad(cell, widths[i])
			if colors && c.color() {
				padded = stateColor(cell) + padded + reset(cell)
			}
			parts[i] = padded
		}
		return strings.TrimRight(strings.Join(parts, " | "), " ")
	}
	var rule []string
	for i, w := range widths {
		if i == len(widths)-1 {
			w = min(w, max(c.env.Width, 40)) // a long text needs no rule to its end
		}
		rule = append(rule, strings.Repeat("=", w))
	}
	out := []string{line(head, false), strings.Join(rule, "=+=")}
	for _, r := range rows {
		out = append(out, line(r, true))
	}
	_, err := fmt.Fprintln(c.env.Stdout, strings.Join(out, "\n"))
	return err
}

func columnWidths(head []string, rows [][]string) []int {
	w := make([]int, len(head))
	for _, r := range append([][]string{head}, rows...) {
		for i, cell := range r {
			w[i] = max(w[i], utf8.RuneCountInString(oneLine(cell)))
		}
	}
	return w
}

func oneLine(s string) string { return strings.ReplaceAll(s, "\n", " ") }

func pad(s string, w int) string {
	return s + strings.Repeat(" ", max(0, w-utf8.RuneCountInString(s)))
}

// stateColors are chosen to be told apart by colour-blind readers too; the text
// is always there.
var stateColors = map[string]string{
	"success": "\x1b[32m", "running": "\x1b[36m", "failed": "\x1b[31m", "upstream_failed": "\x1b[33m", "skipped": "\x1b[35m",
	"up_for_retry": "\x1b[33m", "up_for_reschedule": "\x1b[36m", "queued": "\x1b[90m", "scheduled": "\x1b[90m", "deferred": "\x1b[34m",
	"restarting": "\x1b[35m", "removed": "\x1b[90m", "paused": "\x1b[33m",
}

func stateColor(cell string) string { return stateColors[cell] }

func reset(cell string) string {
	if stateColors[cell] == "" {
		return ""
	}
	return "\x1b[0m"
}

// iso renders a date as Airflow's CLI does; "" for none.
func iso(t *time.Time) string {
	if t == nil || t.IsZero() {
		return ""
	}
	if t.Nanosecond() < 1000 {
		return t.UTC().Format("2006-01-02T15:04:05-07:00")
	}
	return t.UTC().Format("2006-01-02T15:04:05.000000-07:00")
}

// stateText renders a state; "None" is Airflow's word for null here.
func stateText(s airflow.TIState) string {
	if s == airflow.TINone {
		return "None"
	}
	return s.String()
}

func boolText(b bool) string {
	if b {
		return "True"
	}
	return "False"
}
