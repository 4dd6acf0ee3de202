package main

import (
	"bytes"
	"flag"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"os"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

var screenshot = flag.String("screenshot", "", "the file that TestScreenshot writes; if empty, it writes none")

// TestScreenshot puts the page as it looks by day, and on a phone by night, into one
// picture:
//
//	go test ./weblogin -run TestScreenshot -args -screenshot ../../docs/images/weblogin.png
func TestScreenshot(t *testing.T) {
	t.Parallel()
	b := window(t)
	if b == nil {
		return
	}
	w := start(t, time.Minute)
	const wide, phone, high, gap = 756, 360, 740, 28
	b.size(wide, high)
	b.open(w.conf.baseURL + "/login")
	b.logIn(demoLogin, demoPassword)
	b.at("/orders", "Your orders")
	b.until("document.querySelector('.avatar img').complete")
	light := b.picture()
	b.dark(true)
	b.phone(phone, high)
	dark := b.picture()

	whole := image.NewRGBA(image.Rect(0, 0, wide+phone+3*gap, high+2*gap))
	draw.Draw(whole, whole.Bounds(), image.NewUniform(color.RGBA{0xc9, 0xd2, 0xcb, 0xff}), image.Point{}, draw.Src)
	place(whole, light, image.Pt(gap, gap))
	place(whole, dark, image.Pt(wide+2*gap, gap))
	var out bytes.Buffer
	if err := (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&out, whole); err != nil {
		t.Fatal(err)
	}
	if out.Len() > 200<<10 {
		t.Errorf("the picture has %d bytes, want 200 KiB at most", out.Len())
	}
	if *screenshot == "" {
		return
	}
	if err := os.WriteFile(*screenshot, out.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

func (b *tab) picture() image.Image {
	b.Helper()
	raw, err := chromedp.Run(b.ctx, chromedp.CaptureScreenshot())
	if err != nil {
		b.Fatal(err)
	}
	img, err := png.Decode(bytes.NewReader(raw))
	if err != nil {
		b.Fatal(err)
	}
	return img
}

// place draws img with its corner at p.
func place(dst draw.Image, img image.Image, p image.Point) {
	draw.Draw(dst, img.Bounds().Add(p), img, image.Point{}, draw.Src)
}
