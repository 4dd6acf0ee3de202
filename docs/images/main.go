// Images draws the picture of the README from the table of benchmarks/RESULTS.md: what an
// expiry, an outage and eight processes do, with each library.
//
//	go run ./docs/images
//
// It writes compare-light.svg and compare-dark.svg, for light and for dark pages.
package main

import (
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	if err := run("."); err != nil {
		fmt.Fprintln(os.Stderr, "images:", err)
		os.Exit(1)
	}
}

// run reads the table of the repository in root, and writes the pictures.
func run(root string) error {
	results, err := os.ReadFile(filepath.Join(root, "benchmarks", "RESULTS.md"))
	if err != nil {
		return err
	}
	panels, err := panels(string(results))
	if err != nil {
		return err
	}
	for _, c := range []colours{light(), dark()} {
		name := filepath.Join(root, "docs", "images", "compare-"+c.name+".svg")
		if err := os.WriteFile(name, []byte(draw(panels, c)), 0o600); err != nil {
			return err
		}
	}
	return nil
}
