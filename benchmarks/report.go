package main

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"time"
)

// A row is one line of the table: what is measured, and a cell for each peer.
type row struct {
	title string
	cells map[string]string
}

func newRow(title string) row { return row{title, make(map[string]string)} }

func (r row) set(peer, cell string) { r.cells[peer] = cell }

// measured is a median in nanoseconds, and how it stands to that of another peer.
type measured struct {
	ns, ratio float64
}

func (m measured) String() string { return span(m.ns) + " (" + times(m.ratio) + ")" }

// ratios makes a row of samples, with their ratios to those of peer number ref.
func ratios(title string, all []Peer, samples [][]float64, ref int) row {
	r := newRow(title)
	for i, p := range all {
		r.set(p.Name(), measured{median(samples[i]), ratio(samples[i], samples[ref])}.String())
	}
	return r
}

func index(all []Peer, name string) int {
	for i, p := range all {
		if p.Name() == name {
			return i
		}
	}
	return -1
}

func cores() int { return runtime.GOMAXPROCS(0) }

// columns are the headings of the table with their modules.
func columns() (names []string, modules map[string]string) {
	modules = make(map[string]string)
	for _, p := range peers() {
		names = append(names, p.Name())
		modules[p.Name()] = p.Module()
	}
	p := oidcPeer{}
	modules[p.Name()] = p.Module()
	return append(names, p.Name()), modules
}

// writeReport writes the machine, the versions and the table as Markdown.
func writeReport(out io.Writer, rows []row, started time.Time) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, %s/%s, %s, %d cores; %s; took %s.\n\n", started.UTC().Format(time.DateOnly), runtime.GOOS, runtime.GOARCH,
		processor(), cores(), runtime.Version(), time.Since(started).Round(time.Second))
	names, modules := columns()
	versions := buildVersions()
	var list []string
	for _, n := range names {
		if m := modules[n]; m != "" {
			list = append(list, m+" "+versions[m])
		}
	}
	fmt.Fprintf(&b, "%s.\n\n", strings.Join(list, ", "))
	fmt.Fprintf(&b, "| | %s |\n|---%s|\n", strings.Join(names, " | "), strings.Repeat("|---", len(names)))
	for _, r := range rows {
		fmt.Fprintf(&b, "| %s", r.title)
		for _, n := range names {
			cell := r.cells[n]
			if cell == "" {
				cell = "–"
			}
			fmt.Fprintf(&b, " | %s", cell)
		}
		b.WriteString(" |\n")
	}
	_, err := io.WriteString(out, b.String())
	return err
}

// buildVersions returns the versions of the modules in this program.
func buildVersions() map[string]string {
	versions := make(map[string]string)
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return versions
	}
	for _, m := range info.Deps {
		versions[m.Path] = m.Version
		if m.Replace != nil {
			versions[m.Path] = "(this checkout)"
		}
	}
	return versions
}

// processor returns the name of the processor, where the system tells.
func processor() string {
	b, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return "unknown processor"
	}
	for line := range strings.Lines(string(b)) {
		if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == "model name" {
			return strings.TrimSpace(v)
		}
	}
	return "unknown processor"
}
