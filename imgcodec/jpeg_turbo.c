//go:build cgo

#include "jpeg_turbo.h"

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jerror.h>
#include <jpeglib.h>

#ifndef LIBJPEG_TURBO_VERSION_NUMBER
#error "jpeglib.h is not libjpeg-turbo's: swav needs its partial decoding"
#endif

// Progressive files may repeat scans without end at little cost to who wrote them.
#define MAX_SCANS 500

struct swav_jpeg {
	struct jpeg_decompress_struct c;
	struct jpeg_error_mgr errors;
	struct jpeg_progress_mgr progress;
	jmp_buf failed;
	char text[JMSG_LENGTH_MAX];
	int ends_early;
};

static swav_jpeg *decoder_of(j_common_ptr c) { return c->client_data; }

static void on_error(j_common_ptr c) {
	swav_jpeg *d = decoder_of(c);
	c->err->format_message(c, d->text);
	if (c->err->msg_code == JERR_INPUT_EOF || c->err->msg_code == JERR_INPUT_EMPTY)
		d->ends_early = 1;
	longjmp(d->failed, 1);
}

static void on_message(j_common_ptr c, int level) {
	if (level >= 0)
		return; // a trace
	c->err->num_warnings++;
	if (c->err->msg_code == JWRN_JPEG_EOF || c->err->msg_code == JWRN_HIT_MARKER)
		decoder_of(c)->ends_early = 1;
}

static void on_progress(j_common_ptr c) {
	if (((j_decompress_ptr)c)->input_scan_number > MAX_SCANS) {
		swav_jpeg *d = decoder_of(c);
		snprintf(d->text, sizeof d->text, "more than %d scans", MAX_SCANS);
		longjmp(d->failed, 1);
	}
}

static void no_output(j_common_ptr c) { (void)c; }

swav_jpeg *swav_jpeg_new(void) {
	swav_jpeg *d = calloc(1, sizeof *d);
	if (!d)
		return NULL;
	d->c.err = jpeg_std_error(&d->errors);
	d->errors.error_exit = on_error;
	d->errors.emit_message = on_message;
	d->errors.output_message = no_output;
	d->c.client_data = d;
	if (setjmp(d->failed)) {
		free(d);
		return NULL;
	}
	jpeg_create_decompress(&d->c);
	d->c.client_data = d;
	d->progress.progress_monitor = on_progress;
	d->c.progress = &d->progress;
	return d;
}

void swav_jpeg_free(swav_jpeg *d) {
	jpeg_destroy_decompress(&d->c);
	free(d);
}

// Rows and columns beside what is needed are decoded too, as smooth chroma looks at
// its neighbours, which are up to four pixels away.
#define MARGIN 8

// Rows to rows + n - 1 into pix, whose rows are stride samples apart.
static void read_rows(struct jpeg_decompress_struct *c, uint8_t *pix, size_t stride, JDIMENSION n) {
	JSAMPROW rows[16];
	JDIMENSION end = c->output_scanline + n;
	while (c->output_scanline < end) {
		JDIMENSION m = end - c->output_scanline < 16 ? end - c->output_scanline : 16;
		for (JDIMENSION i = 0; i < m; i++)
			rows[i] = pix + (c->output_scanline + i) * stride;
		jpeg_read_scanlines(c, rows, m);
	}
}

int swav_jpeg_decode(swav_jpeg *d, const uint8_t *data, size_t n, uint8_t *pix, const swav_jpeg_frame *f, char *text, size_t size, long *warnings) {
	struct jpeg_decompress_struct *c = &d->c;
	d->ends_early = 0;
	if (setjmp(d->failed)) {
		snprintf(text, size, "%s", d->text);
		return d->ends_early ? SWAV_JPEG_ENDS_EARLY : SWAV_JPEG_FAILED;
	}
	jpeg_mem_src(c, data, n);
	jpeg_read_header(c, TRUE); // sets the warnings to none
	if ((int)c->image_width != f->width || (int)c->image_height != f->height || c->num_components != f->components)
		return SWAV_JPEG_OTHER_SIZE;
	c->out_color_space = f->components == 1 ? JCS_GRAYSCALE : f->components == 3 ? JCS_RGB : JCS_CMYK;
	jpeg_start_decompress(c);

	size_t stride = (size_t)f->width * f->components;
	JDIMENSION left = f->left > MARGIN ? f->left - MARGIN : 0, right = f->right + MARGIN < f->width ? f->right + MARGIN : f->width;
	if (left > 0 || right < c->output_width) {
		JDIMENSION width = right - left;
		jpeg_crop_scanline(c, &left, &width);
	}
	pix += (size_t)left * f->components;
	JDIMENSION top = f->top > MARGIN ? f->top - MARGIN : 0, last = f->height - 1;
	if (top > 0)
		jpeg_skip_scanlines(c, top);
	read_rows(c, pix, stride, f->bottom - c->output_scanline);
	// The library would not read the data of rows skipped at the end, so the last
	// row is always decoded.
	if (c->output_scanline < last)
		jpeg_skip_scanlines(c, last - c->output_scanline);
	if (c->output_scanline == last)
		read_rows(c, pix, stride, 1);
	jpeg_finish_decompress(c);
	*warnings = d->errors.num_warnings;
	return d->ends_early ? SWAV_JPEG_ENDS_EARLY : SWAV_JPEG_OK;
}
