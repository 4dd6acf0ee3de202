// Command benchmarks measures authtrip beside what people use today, and prints
// one Markdown table.
//
//	go run .          # the whole table, a quarter of an hour
//	go run . -quick   # every scenario once, small: does it work
//	go run . -run hot # only the scenarios whose name matches
package main

import (
	"flag"
	"fmt"
	"log"
	"os"
	"regexp"
	"time"
)

// A scenario makes some rows of the table.
type scenario struct {
	name string
	run  func(scale) ([]row, error)
}

// scenarios are in the order of the table.
func scenarios() []scenario {
	return []scenario{
		{"hot", hotPath},
		{"proofs", proofs},
		{"loopback", loopback},
		{"bursts", bursts},
		{"steady", steady},
		{"outage", outage},
		{"herds", herds},
		{"users", users},
		{"userinfo", userInfo},
		{"processes", processes},
	}
}

func main() {
	log.SetFlags(log.Ltime)
	if is, err := child(); is {
		if err != nil {
			log.Fatal(err)
		}
		return
	}
	quick := flag.Bool("quick", false, "run every scenario once and small, to see that it works; the numbers mean nothing")
	pattern := flag.String("run", "", "run only the scenarios whose name matches this regular `expression`")
	flag.Parse()
	match, err := regexp.Compile(*pattern)
	if err != nil {
		log.Fatal("-run: ", err)
	}
	started := time.Now()
	var rows []row
	for _, s := range scenarios() {
		if !match.MatchString(s.name) {
			continue
		}
		log.Print(s.name, " …")
		got, err := s.run(scale{quick: *quick})
		if err != nil {
			log.Fatal(fmt.Errorf("%s: %w", s.name, err))
		}
		rows = append(rows, got...)
	}
	if err := writeReport(os.Stdout, rows, started); err != nil {
		log.Fatal(err)
	}
}
