package main

import (
	"fmt"
	"html"
	"strings"
)

// colours are those of one kind of page.
type colours struct{ name, text, quiet, own, other, bad string }

func light() colours {
	return colours{"light", "#1f2328", "#59636e", "#0969da", "#afb8c1", "#cf222e"}
}

func dark() colours {
	return colours{"dark", "#e6edf3", "#9198a1", "#58a6ff", "#484f58", "#ff7b72"}
}

// What follows is in the units of the picture.
const (
	labels  = 76  // the width of the libraries' names
	part    = 262 // that of a panel
	longest = 120
	top     = 58
	step    = 24
)

// draw returns the picture as SVG.
func draw(panels []panel, c colours) string {
	var b strings.Builder
	width, height := labels+part*len(panels), top+step*len(libraries())+22
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img" aria-labelledby="t" font-family="-apple-system, 'Segoe UI', Helvetica, Arial, sans-serif" font-size="12">`+"\n", width, height, width, height)
	b.WriteString(`<title id="t">What an expiry, an outage and eight processes do, with each library</title>` + "\n")
	for i, library := range libraries() {
		write(&b, 0, top+step*i+12, weight(i), ink(i, c), library)
	}
	for i, p := range panels {
		x := labels + part*i
		write(&b, x, 16, "bold", c.text, p.title)
		write(&b, x, 34, "normal", c.quiet, p.below)
		for j, bar := range p.bars {
			y := top + step*j
			colour, text := c.other, ink(j, c)
			if j == 0 {
				colour = c.own
			}
			if bar.bad {
				text = c.bad
			}
			length := max(2, int(bar.length*longest))
			fmt.Fprintf(&b, `<rect x="%d" y="%d" width="%d" height="14" rx="2" fill="%s"/>`+"\n", x, y, length, colour)
			write(&b, x+length+6, y+12, weight(j), text, bar.text)
		}
	}
	write(&b, labels, height-4, "normal", c.quiet, "Shorter is better. The first two scales are logarithmic. From benchmarks/RESULTS.md, by go run ./docs/images.")
	b.WriteString("</svg>\n")
	return b.String()
}

// weight returns that of a row's letters: the first row is the library's own.
func weight(row int) string {
	if row == 0 {
		return "bold"
	}
	return "normal"
}

func ink(row int, c colours) string {
	if row == 0 {
		return c.text
	}
	return c.quiet
}

func write(b *strings.Builder, x, y int, weight, colour, text string) {
	fmt.Fprintf(b, `<text x="%d" y="%d" font-weight="%s" fill="%s">%s</text>`+"\n", x, y, weight, colour, html.EscapeString(text))
}
