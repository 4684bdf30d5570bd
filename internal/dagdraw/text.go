package dagdraw

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/gustflow/gust/internal/airflow"
)

// Options of a drawing.
type Options struct {
	// Width is the terminal's width in characters; 0 = 100. It decides whether the
	// layers run from left to right or from top to bottom.
	Width int
	// Color uses ANSI colours: of groups, or of states where they are given.
	Color bool
	// States are shown with the tasks, if not nil.
	States map[airflow.TaskID]airflow.TIState
	// MaxTasks is above how many tasks a list is written instead; 0 = 400.
	MaxTasks int
}

// Direction bits of lines that meet in a cell.
const (
	north = 1 << iota
	east
	south
	west
)

var lines = map[int]rune{
	north: '│', south: '│', north | south: '│', east: '─', west: '─', east | west: '─',
	south | east: '╭', south | west: '╮', north | east: '╰', north | west: '╯',
	north | south | east: '├', north | south | west: '┤', south | east | west: '┬', north | east | west: '┴', north | east | south | west: '┼',
}

type canvas struct {
	w, h  int
	bits  []int
	runes []rune
	color []string
}

func newCanvas(w, h int) *canvas {
	return &canvas{w: w, h: h, bits: make([]int, w*h), runes: make([]rune, w*h), color: make([]string, w*h)}
}

func (c *canvas) put(x, y int, r rune, color string) {
	if x >= 0 && y >= 0 && x < c.w && y < c.h {
		c.runes[y*c.w+x], c.color[y*c.w+x] = r, color
	}
}

// horizontal and vertical draw lines through the centres of the end cells.
func (c *canvas) horizontal(y, x1, x2 int) {
	if x1 > x2 {
		x1, x2 = x2, x1
	}
	for x := x1; x <= x2; x++ {
		if x > x1 {
			c.bits[y*c.w+x] |= west
		}
		if x < x2 {
			c.bits[y*c.w+x] |= east
		}
	}
}

func (c *canvas) vertical(x, y1, y2 int) {
	if y1 > y2 {
		y1, y2 = y2, y1
	}
	for y := y1; y <= y2; y++ {
		if y > y1 {
			c.bits[y*c.w+x] |= north
		}
		if y < y2 {
			c.bits[y*c.w+x] |= south
		}
	}
}

// join makes the line that begins at a cell touch what lies before it.
func (c *canvas) join(across bool, along, centre int) {
	if across {
		c.bits[centre*c.w+along] |= west
	} else {
		c.bits[along*c.w+centre] |= north
	}
}

func (c *canvas) String() string {
	var b strings.Builder
	for y := range c.h {
		var line strings.Builder
		end, colored := 0, ""
		for x := range c.w {
			i := y*c.w + x
			r, col := c.runes[i], c.color[i]
			if r == 0 {
				r, col = lines[c.bits[i]], ""
			}
			if r == 0 {
				r = ' '
			}
			if col != colored {
				if colored != "" {
					line.WriteString("\x1b[0m")
				}
				line.WriteString(col)
				colored = col
			}
			line.WriteRune(r)
			if r != ' ' {
				end = line.Len()
			}
		}
		b.WriteString(line.String()[:end])
		if colored != "" {
			b.WriteString("\x1b[0m")
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// Text draws a DAG with boxes and lines, its layers from left to right where
// the terminal is wide enough, else from top to bottom.
func Text(d *airflow.DAG, o Options) string {
	if o.Width == 0 {
		o.Width = 100
	}
	if o.MaxTasks == 0 {
		o.MaxTasks = 400
	}
	if len(d.Tasks) > o.MaxTasks {
		return list(d, o)
	}
	if len(d.Tasks) == 0 {
		return "(no tasks)\n"
	}
	g := build(d, o.States)
	g.assignLayers()
	g.reorder()
	c := g.draw(o, true)
	if c.w > o.Width {
		if down := g.draw(o, false); down.w < c.w {
			c = down
		}
	}
	return c.String() + g.legend(o)
}

// list is what is shown of a DAG too large to be drawn.
func list(d *airflow.DAG, o Options) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d tasks are too many to draw here; save the graph to a file instead (--save graph.svg)\n", len(d.Tasks))
	for _, t := range d.Tasks {
		b.WriteString(label(t))
		if s, ok := o.States[t.TaskID]; ok {
			b.WriteString(" (" + s.String() + ")")
		}
		for i, down := range t.Downstream {
			if i == 0 {
				b.WriteString(" →")
			} else {
				b.WriteByte(',')
			}
			b.WriteString(" " + string(down))
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func (g *graph) text(n node) string {
	if n.state != nil {
		return stateMark(*n.state) + " " + n.label
	}
	return n.label
}

// draw lays the graph out and draws it. With across, layers run from left to right.
func (g *graph) draw(o Options, across bool) *canvas {
	boxWidth := func(n node) int {
		if n.dummy {
			return 1
		}
		return utf8.RuneCountInString(g.text(n)) + 4
	}
	// along is the extent in the direction of the layers, size the one across.
	along := func(n node) int {
		if n.dummy {
			return 1
		}
		if across {
			return boxWidth(n)
		}
		return 3
	}
	size := func(n node) int {
		if n.dummy {
			return 1
		}
		if across {
			return 3
		}
		return boxWidth(n)
	}
	gap := 0
	if !across {
		gap = 2
	}
	pos := g.place(size, gap)
	centre := func(i int) int { return pos[i] + (size(g.nodes[i])-1)/2 }

	// Each channel between layers has as many tracks as edges of different
	// sources overlap there.
	start := make([]int, len(g.layers))
	depth := make([]int, len(g.layers))
	tracks := make([]map[int]int, len(g.layers)) // source -> track
	at, extent := 0, 0
	for l, layer := range g.layers {
		start[l] = at
		for _, n := range layer {
			depth[l] = max(depth[l], along(g.nodes[n]))
			extent = max(extent, pos[n]+size(g.nodes[n]))
		}
		var count int
		tracks[l], count = g.tracks(layer, centre)
		at += depth[l]
		if l < len(g.layers)-1 {
			at += max(count, 1) + 2
		}
	}
	w, h := at, extent
	if !across {
		w, h = extent, at
	}
	c := newCanvas(w, h)
	lineAlong := func(o, a1, a2 int) {
		if across {
			c.horizontal(o, a1, a2)
		} else {
			c.vertical(o, a1, a2)
		}
	}
	lineAcross := func(a, o1, o2 int) {
		if across {
			c.vertical(a, o1, o2)
		} else {
			c.horizontal(a, o1, o2)
		}
	}
	for _, e := range g.edges {
		f, t := g.nodes[e.from], g.nodes[e.to]
		from := start[f.layer] + along(f)
		if f.dummy {
			from = start[f.layer]
		}
		track := start[f.layer] + depth[f.layer] + tracks[f.layer][e.from]
		to := start[t.layer]
		c.join(across, from, centre(e.from))
		lineAlong(centre(e.from), from, track)
		lineAcross(track, centre(e.from), centre(e.to))
		lineAlong(centre(e.to), track, to)
	}
	for i, n := range g.nodes {
		if n.dummy {
			// A bend may be in a layer of wide boxes.
			lineAlong(centre(i), start[n.layer], start[n.layer]+depth[n.layer])
			continue
		}
		x, y := start[n.layer], pos[i]
		if !across {
			x, y = pos[i], start[n.layer]
		}
		c.box(x, y, g.text(n), g.colorOf(n, o))
	}
	// Arrow heads last: they replace the end of the line.
	for _, e := range g.edges {
		if t := g.nodes[e.to]; !t.dummy {
			if across {
				c.put(start[t.layer]-1, centre(e.to), '▶', "")
			} else {
				c.put(centre(e.to), start[t.layer]-1, '▼', "")
			}
		}
	}
	return c
}

// tracks assigns each source of a layer the track of the following channel on
// which its edges turn. Sources whose edges overlap get different tracks.
func (g *graph) tracks(layer []int, centre func(int) int) (map[int]int, int) {
	type span struct{ from, to int }
	used := [][]span{}
	out := map[int]int{}
	for _, n := range layer {
		s := span{centre(n), centre(n)}
		turns := false
		for _, e := range g.edges {
			if e.from == n {
				s.from, s.to = min(s.from, centre(e.to)), max(s.to, centre(e.to))
				turns = turns || centre(e.to) != centre(n)
			}
		}
		if !turns {
			continue // straight on: any track
		}
		for t := 0; ; t++ {
			if t == len(used) {
				used = append(used, nil)
			}
			free := true
			for _, u := range used[t] {
				free = free && (s.to < u.from || u.to < s.from)
			}
			if free {
				used[t] = append(used[t], s)
				out[n] = t
				break
			}
		}
	}
	return out, len(used)
}

func (c *canvas) box(x, y int, text, color string) {
	w := utf8.RuneCountInString(text) + 4
	for i := range w {
		top, bottom := '─', '─'
		switch i {
		case 0:
			top, bottom = '╭', '╰'
		case w - 1:
			top, bottom = '╮', '╯'
		}
		c.put(x+i, y, top, color)
		c.put(x+i, y+2, bottom, color)
		c.put(x+i, y+1, ' ', color)
	}
	c.put(x, y+1, '│', color)
	c.put(x+w-1, y+1, '│', color)
	i := 2
	for _, r := range text {
		c.put(x+i, y+1, r, color)
		i++
	}
}

// groupColors tell groups apart.
var groupColors = []string{"\x1b[36m", "\x1b[33m", "\x1b[35m", "\x1b[32m", "\x1b[34m", "\x1b[96m", "\x1b[93m", "\x1b[95m"}

func (g *graph) groupColor(name string) string {
	for i, n := range g.groups {
		if n == name {
			return groupColors[i%len(groupColors)]
		}
	}
	return ""
}

func (g *graph) colorOf(n node, o Options) string {
	if !o.Color {
		return ""
	}
	if n.state != nil {
		return stateColor(*n.state)
	}
	return g.groupColor(n.group)
}

func (g *graph) legend(o Options) string {
	if !o.Color || len(g.groups) == 0 || o.States != nil {
		return ""
	}
	var parts []string
	for _, n := range g.groups {
		parts = append(parts, g.groupColor(n)+"■ "+n+"\x1b[0m")
	}
	return "\n" + strings.Join(parts, "  ") + "\n"
}

// stateMark is a letter-sized mark, so that states need no colour.
func stateMark(s airflow.TIState) string {
	switch s {
	case airflow.TISuccess:
		return "✓"
	case airflow.TIFailed:
		return "✗"
	case airflow.TIUpstreamFailed:
		return "⊘"
	case airflow.TISkipped:
		return "↷"
	case airflow.TIRunning:
		return "▸"
	case airflow.TIUpForRetry:
		return "↻"
	case airflow.TIUpForReschedule, airflow.TIDeferred:
		return "⏸"
	case airflow.TIQueued, airflow.TIScheduled:
		return "…"
	}
	return "·"
}

func stateColor(s airflow.TIState) string {
	switch s {
	case airflow.TISuccess:
		return "\x1b[32m"
	case airflow.TIFailed:
		return "\x1b[31m"
	case airflow.TIUpstreamFailed, airflow.TIUpForRetry:
		return "\x1b[33m"
	case airflow.TISkipped:
		return "\x1b[35m"
	case airflow.TIRunning, airflow.TIUpForReschedule:
		return "\x1b[36m"
	case airflow.TIDeferred:
		return "\x1b[34m"
	}
	return "\x1b[90m"
}
