package lifecycle

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// A break is the decision with one guard broken.
type tableBreak struct {
	name string
	rows Rows
}

// tableBreaks returns every break of the table: each row left out, each set of each
// row widened to every value, and each step taken for another one.
func tableBreaks() []tableBreak {
	var all []tableBreak
	for i, row := range Table {
		all = append(all, tableBreak{fmt.Sprintf("without %q", row.Name), slices.Delete(slices.Clone(Table), i, i+1)})
		v := reflect.TypeOf(row)
		for n := range v.NumField() {
			field := v.Field(n)
			if field.Name == "Name" || field.Name == "Step" || reflect.ValueOf(row).Field(n).Uint() == 0 {
				continue
			}
			rows := slices.Clone(Table)
			reflect.ValueOf(&rows[i]).Elem().Field(n).SetUint(0)
			all = append(all, tableBreak{fmt.Sprintf("%q for any %s", row.Name, field.Name), rows})
		}
		for _, step := range instead[row.Step] {
			rows := slices.Clone(Table)
			rows[i].Step = step
			all = append(all, tableBreak{fmt.Sprintf("%q %s", row.Name, stepNames[step]), rows})
		}
	}
	return all
}

// instead is what a step is taken for.
var instead = map[Step][]Step{
	Serve: {Rest}, Load: {Rest}, Publish: {Rest, Save}, Save: {Rest, Publish}, TakeLease: {Mark},
	Wait: {Rest, Mark}, Mark: {Send}, Send: {Rest}, Rest: {Send, EndSession}, EndSession: {Rest},
}

// found returns which proof finds a break.
func found(rows Rows, probes []config) string {
	if laws := broken(rows, 1); len(laws) > 0 {
		return "enumeration: " + laws[0]
	}
	for _, cfg := range probes {
		cfg.rows = rows
		if s := explore(&cfg, 5); s.bad != "" {
			return fmt.Sprintf("exploration: %s, in %d steps (%s)", s.bad, s.depth+1, cfg.name)
		}
	}
	return ""
}

// equivalent are the breaks that change nothing, and why.
var equivalent = map[string]string{
	`"without a Store, and nothing known" for any Stored`:                 "with no token here every record is newer, and nothing there is decided before",
	`"nobody has logged in, and an attempt is not due" for any Token`:     "who has a token has put it back",
	`"nobody has logged in: the Refresher says what to do" for any Token`: "who has a token has put it back",
}

func TestEveryBreakOfTheTableIsFound(t *testing.T) {
	breaks := tableBreaks()
	n := 0
	for i, b := range breaks {
		if !long && i%7 != 0 || raced && i > 7 {
			continue
		}
		n++
		how := found(b.rows, probes())
		_, same := equivalent[b.name]
		switch {
		case how == "" && !same:
			t.Errorf("not found: %s", b.name)
		case how != "" && same:
			t.Errorf("found, though it is in the list of those that change nothing: %s (%s)", b.name, how)
		default:
			t.Logf("%s: %s", b.name, strings.SplitN(how+equivalent[b.name], "{", 2)[0])
		}
	}
	fmt.Printf("breaks of the table: %d of %d tried, %d of them change nothing\n", n, len(breaks), len(equivalent))
}
