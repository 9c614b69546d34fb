#![no_main]

candle_vision_fuzz::fuzz!(candle_vision_fuzz::parsers::decoded);
