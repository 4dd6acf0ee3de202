package main

import (
	"os"
	"strings"
	"testing"
)

// TestPicturesAreThoseOfTheTable: after new results, go run ./docs/images draws them.
func TestPicturesAreThoseOfTheTable(t *testing.T) {
	results, err := os.ReadFile("../../benchmarks/RESULTS.md")
	if err != nil {
		t.Fatal(err)
	}
	drawn, err := panels(string(results))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []colours{light(), dark()} {
		name := "compare-" + c.name + ".svg"
		committed, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if draw(drawn, c) != string(committed) {
			t.Errorf("%s is not that of benchmarks/RESULTS.md: go run ./docs/images", name)
		}
	}
}

func TestPictureNeedsEachRow(t *testing.T) {
	for _, without := range []string{"| Steady load", "| Token endpoint answers 503", "| 8 processes", "| … failed requests"} {
		results, err := os.ReadFile("../../benchmarks/RESULTS.md")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := panels(strings.ReplaceAll(string(results), without, "| another row")); err == nil {
			t.Errorf("no error without a row that begins with %q", without)
		}
	}
}

func TestShareOfFailures(t *testing.T) {
	for cell, want := range map[string]float64{
		"none of 83,626":                        0,
		"3 × 401 of 300":                        0.01,
		"2,541 × 401, 61,455 × error of 63,996": 1,
	} {
		if got, err := failures(cell); got != want || err != nil {
			t.Errorf("failures(%q) = %v, %v, want %v", cell, got, err, want)
		}
	}
	if _, err := failures("nobody was served"); err == nil {
		t.Error("a cell without numbers has failures")
	}
}
